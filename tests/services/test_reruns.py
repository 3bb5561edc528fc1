"""Repeating runs: one tenant only, from what is stored, and nothing of the earlier run changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from app.api.services import ApiServices
from app.engines.engine import NotPossible, RunEnded
from app.ports.errors import InputsInvalid, PermanentError
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import RunFilter, RunRow, WorkflowRow
from app.services.errors import RunHasCompleted, RunNotEnded, RunNotFound, UnknownStep, WorkflowNotFound
from app.services.idempotency import Answer, IdempotencyKey
from app.services.principal import Principal
from app.services.reruns import RerunRequest
from app.services.runs import RunRequest
from app.services.views import Reused, RunView
from tests.api.harness import services_of
from tests.engines.harness import Bench, bench, llm, workflow

ADA = Principal(tenant="ada", subject="ada", roles=frozenset({"admin"}))
BOB = Principal(tenant="bob", subject="bob", roles=frozenset({"admin"}))
DONE = Answer(status_code=202, body=b"")
NEEDS_Q = {"type": "object", "required": ["q"], "properties": {"q": {"type": "string"}}}
DOCUMENT = workflow(llm("a", "{{ inputs.q }}"), llm("b", "{{ steps.a.text }}", retry="never"), inputs=NEEDS_Q)


def receipt(run: RunRow) -> Answer:
    return Answer(status_code=202, body=run.id.encode(), headers={"Location": f"/v1/runs/{run.id}"})


@dataclass
class World:
    """One engine with its services, and a model that fails where it is told to."""

    bench: Bench
    services: ApiServices
    failing: set[str]

    async def ended(self, **more: object) -> RunView:
        """A run of Ada's that has ended."""
        request = RunRequest(workflow=DOCUMENT, inputs={"q": "why"}, **more)  # type: ignore[arg-type]  # as given
        accepted = await self.services.runs.submit(ADA, request, receipt)
        view = await self.services.runs.wait(ADA, accepted, seconds=10)
        assert view is not None
        self.bench.chat.calls.clear()
        return view

    async def retried(self, run_id: str) -> RunView:
        """The repetition, once it has ended."""
        accepted = await self.services.reruns.retry(ADA, run_id, receipt)
        view = await self.services.runs.wait(ADA, accepted, seconds=10)
        assert view is not None
        return view

    async def rerun(self, run_id: str, request: RerunRequest) -> RunView:
        """The run with changes, once it has ended."""
        accepted = await self.services.reruns.rerun(ADA, run_id, request, receipt)
        view = await self.services.runs.wait(ADA, accepted, seconds=10)
        assert view is not None
        return view


@pytest.fixture
async def world() -> AsyncIterator[World]:
    failing: set[str] = set()

    async def script(request: ChatRequest, context: CallContext) -> str:
        if context.path in failing:
            raise PermanentError("invalid_request", "not this one")
        return f"{context.path} of {context.run_id}"

    async with bench(script=script) as engine:
        yield World(engine, services_of(engine), failing)


async def test_another_tenants_run_cannot_be_repeated_or_paused(world: World) -> None:
    run_id = (await world.ended()).summary.id
    services = world.services
    with pytest.raises(RunNotFound):
        await services.reruns.retry(BOB, run_id, receipt)
    with pytest.raises(RunNotFound):
        await services.reruns.rerun(BOB, run_id, RerunRequest(), receipt)
    with pytest.raises(RunNotFound):
        await services.pauses.pause(BOB, run_id, reason=None, answer=DONE)
    with pytest.raises(RunNotFound):
        await services.pauses.resume(BOB, run_id, receipt=lambda _: DONE)
    assert not await world.bench.store.runs.list("bob", RunFilter(), limit=10)


async def test_a_run_that_completed_has_nothing_to_retry(world: World) -> None:
    with pytest.raises(RunHasCompleted):
        await world.services.reruns.retry(ADA, (await world.ended()).summary.id, receipt)


async def test_a_run_under_way_cannot_be_repeated() -> None:
    async def never(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    async with bench(script=never) as engine:
        services = services_of(engine)
        request = RunRequest(workflow=DOCUMENT, inputs={"q": "why"})
        run_id = (await services.runs.submit(ADA, request, receipt)).run_id
        with pytest.raises(RunNotEnded):
            await services.reruns.retry(ADA, run_id, receipt)
        with pytest.raises(RunNotEnded):
            await services.reruns.rerun(ADA, run_id, RerunRequest(), receipt)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (RerunRequest(start="aa"), UnknownStep),
        (RerunRequest(inputs={}), InputsInvalid),
        (RerunRequest(version="9"), WorkflowNotFound),
    ],
)
async def test_a_refused_repetition_stores_nothing(
    world: World, request_: RerunRequest, error: type[Exception]
) -> None:
    run_id = (await world.ended()).summary.id
    with pytest.raises(error):
        await world.services.reruns.rerun(ADA, run_id, request_, receipt)
    assert len(await world.bench.store.runs.list("ada", RunFilter(), limit=10)) == 1


async def test_a_retry_goes_on_from_the_failed_step_and_says_what_it_saved(world: World) -> None:
    world.failing.add("b")
    first = await world.ended(labels={"team": "search"}, priority=7, timeout_seconds=60.0)
    before = await world.bench.store.journal.read(first.summary.id)
    world.failing.clear()
    second = await world.retried(first.summary.id)
    assert second.summary.status == "completed"
    assert world.bench.chat.calls == {"b": 1}
    assert second.summary.parent_run_id == first.summary.id
    assert (second.summary.labels, second.summary.priority) == ({"team": "search"}, 7)
    assert second.reused == Reused(steps=1, input_tokens=3, output_tokens=2)
    assert (second.input_tokens, second.output_tokens) == (3, 2)
    assert await world.bench.store.journal.read(first.summary.id) == before
    assert (await world.bench.read(second.summary.id)).timeout == 60.0


async def test_a_retry_of_a_retry_keeps_what_both_completed(world: World) -> None:
    world.failing.add("b")
    first = await world.ended()
    second = await world.retried(first.summary.id)
    assert second.summary.status == "failed"
    world.failing.clear()
    third = await world.retried(second.summary.id)
    sources = {step.path: (step.source or {}).get("run_id") for step in third.steps}
    assert sources == {"a": first.summary.id, "b": None}
    assert third.summary.parent_run_id == second.summary.id


async def test_a_cancelled_run_can_be_retried() -> None:
    go, reached = asyncio.Event(), asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        if context.path == "b":
            reached.set()
            await go.wait()
        return context.path

    async with bench(script=held) as engine:
        services = services_of(engine)
        request = RunRequest(workflow=DOCUMENT, inputs={"q": "why"})
        accepted = await services.runs.submit(ADA, request, receipt)
        await reached.wait()
        await engine.engine.cancel(accepted.run_id, reason=None)
        await engine.finish(accepted.run_id)
        go.set()
        retried = await services.reruns.retry(ADA, accepted.run_id, receipt)
        assert (await engine.finish(retried.run_id)).status == "completed"
        assert engine.chat.calls == {"a": 1, "b": 2}


async def test_a_rerun_without_changes_makes_no_call(world: World) -> None:
    first = await world.ended()
    second = await world.rerun(first.summary.id, RerunRequest())
    assert not world.bench.chat.calls
    assert second.outputs == first.outputs
    assert second.reused == Reused(steps=2, input_tokens=6, output_tokens=4)
    assert (second.input_tokens, second.output_tokens) == (0, 0)


async def test_a_rerun_from_a_step_runs_it_and_what_follows(world: World) -> None:
    first = await world.ended()
    await world.rerun(first.summary.id, RerunRequest(start="b"))
    assert world.bench.chat.calls == {"b": 1}


async def test_a_rerun_with_other_inputs_runs_what_sees_them(world: World) -> None:
    first = await world.ended()
    request = RerunRequest(inputs={"q": "how"}, labels={"try": "2"}, priority=1)
    second = await world.rerun(first.summary.id, request)
    assert world.bench.chat.calls == {"a": 1, "b": 1}
    assert (second.inputs, second.summary.labels, second.summary.priority) == ({"q": "how"}, {"try": "2"}, 1)


async def test_a_rerun_of_another_version_runs_what_that_changed(world: World) -> None:
    first = await world.ended()
    steps = [DOCUMENT["steps"][0], llm("b", "shorter: {{ steps.a.text }}"), llm("c")]
    compiled = world.bench.catalog.compile({**DOCUMENT, "steps": steps, "version": "2"})
    row = WorkflowRow(
        tenant="ada",
        name="test",
        version="2",
        revision=0,
        definition_hash=compiled.definition.hash,
        description=None,
    )
    await world.bench.store.workflows.register(row, compiled.definition)
    second = await world.rerun(first.summary.id, RerunRequest(version="2"))
    assert second.summary.version == "2"
    assert world.bench.chat.calls == {"b": 1, "c": 1}


async def test_the_same_key_gives_the_same_repetition(world: World) -> None:
    run_id = (await world.ended()).summary.id
    key = IdempotencyKey(key="k", fingerprint="f")
    one = await world.services.reruns.rerun(ADA, run_id, RerunRequest(), receipt, key)
    two = await world.services.reruns.rerun(ADA, run_id, RerunRequest(), receipt, key)
    assert (two.run_id, two.replayed) == (one.run_id, True)
    assert len(await world.bench.store.runs.list("ada", RunFilter(), limit=10)) == 2


async def test_a_run_that_has_ended_can_be_neither_paused_nor_resumed(world: World) -> None:
    run_id = (await world.ended()).summary.id
    with pytest.raises(RunEnded):
        await world.services.pauses.pause(ADA, run_id, reason=None, answer=DONE)
    with pytest.raises(RunEnded):
        await world.services.pauses.resume(ADA, run_id, receipt=lambda _: DONE)


async def test_a_paused_run_says_why_and_goes_on_when_it_is_resumed() -> None:
    go = asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        await go.wait()
        return context.path

    async with bench(script=held) as engine:
        services = services_of(engine)
        request = RunRequest(workflow=DOCUMENT, inputs={"q": "why"})
        run_id = (await services.runs.submit(ADA, request, receipt)).run_id
        await engine.chat.started.wait()
        with pytest.raises(NotPossible):
            await services.pauses.resume(ADA, run_id, receipt=lambda _: DONE)
        key = IdempotencyKey(key="k", fingerprint="f")
        assert await services.pauses.pause(ADA, run_id, reason="look", answer=DONE, key=key) == (DONE, False)
        assert await services.pauses.pause(ADA, run_id, reason="look", answer=DONE, key=key) == (DONE, True)
        go.set()
        view = await services.runs.get(ADA, run_id)
        assert (view.summary.status, view.pause_reason) == ("paused", "look")
        assert await services.pauses.resume(ADA, run_id, receipt=lambda _: DONE) == (DONE, False)
        assert (await engine.finish(run_id)).status == "completed"
        assert (await services.runs.get(ADA, run_id)).pause_reason is None
