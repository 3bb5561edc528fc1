"""Runs that call each other under concurrency limits: none waits for what only its own end could bring."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uuid_utils

from app.core import events as e
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import RunFilter
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, eventually, llm, workflow
from tests.engines.test_concurrency import Gate, status
from tests.engines.test_waiting import register


def calling(name: str, callee: str, limit: int = 1, on_limit: str = "queue", **more: Any) -> dict[str, Any]:
    """Says something, then calls another workflow as often as `left` says."""
    call = {
        "id": "call",
        "type": "workflow",
        "workflow": callee,
        "inputs": {"left": "{{ inputs.left - 1 }}"},
        "condition": "inputs.left > 0",
        "depends_on": ["say"],
        **more,
    }
    rule = {"key": "k", "limit": limit, "on_limit": on_limit}
    return {**workflow(llm("say"), call, concurrency=rule), "name": name}


async def refusal(it: Bench, run_id: str) -> e.Failure:
    history = await it.finish(run_id, seconds=5)
    assert history.failure is not None
    return history.failure


@pytest.mark.parametrize("on_limit", ["queue", "cancel_oldest", "reject"])
async def test_a_workflow_that_waits_for_itself_under_its_own_limit_fails(on_limit: str) -> None:
    async with bench() as it:
        document = calling("me", "me", on_limit=on_limit)
        await register(it, document)
        run_id = await it.submit(document, {"left": 1})
        failure = await refusal(it, run_id)
        assert failure.error_class == "invalid_config"
        assert f"run {run_id!r} would wait for ever" in failure.message
        assert "workflow 'me'" in failure.message
        assert len(await it.store.runs.list("default", RunFilter(), limit=9)) == 1


async def test_a_workflow_may_call_itself_as_deep_as_its_limit_allows() -> None:
    async with bench() as it:
        document = calling("me", "me", limit=3)
        await register(it, document)
        assert (await it.finish(await it.submit(document, {"left": 2}))).status == "completed"
        assert (await refusal(it, await it.submit(document, {"left": 3}))).error_class == "invalid_config"


async def test_a_workflow_that_does_not_wait_for_its_call_may_call_itself() -> None:
    async with bench() as it:
        document = calling("me", "me", wait=False)
        await register(it, document)
        history = await it.finish(await it.submit(document, {"left": 2}))
        assert history.status == "completed"
        called = history.state.steps["call"].control
        assert called is not None
        assert (await it.finish(called.child or "")).status == "completed"


async def test_of_two_workflows_that_wait_for_each_other_one_fails_and_the_other_goes_on() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        ours, theirs = calling("ours", "theirs"), calling("theirs", "ours")
        for document in (ours, theirs):
            await register(it, document)
        runs = [await it.submit(ours, {"left": 1}), await it.submit(theirs, {"left": 1})]
        gate.open.set()
        ends = {(await it.finish(run, seconds=5)).status for run in runs}
        assert ends == {"completed", "failed"}


async def test_a_circle_that_another_process_left_is_broken_when_it_is_found() -> None:
    """As it was handed in before anybody looked for circles: the journal does not say who was checked."""
    gate = Gate()
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=gate) as it:
        ours, theirs = calling("ours", "theirs"), calling("theirs", "ours")
        for document in (ours, theirs):
            await register(it, document)
        it.engine._uptake.concurrency.would_stand_still = lambda call: False  # type: ignore[method-assign]  # an earlier version
        runs = [await it.submit(ours, {"left": 1}), await it.submit(theirs, {"left": 1})]
        gate.open.set()
        async with asyncio.timeout(10):
            while {await status(it, run) for run in runs} != {"waiting"}:  # noqa: ASYNC110  nobody tells of it
                await asyncio.sleep(0.01)
    async with bench(store=store, script=gate) as it:
        ends = {(await it.finish(run, seconds=5)).status for run in runs}
        assert ends == {"completed", "failed"}


async def test_a_call_waits_for_a_place_that_somebody_else_will_free() -> None:
    gate = Gate()

    async def hold(request: ChatRequest, context: CallContext) -> str:
        return await gate() if context.run_id == held else "ok"

    async with bench(script=hold) as it:
        ours, theirs = calling("ours", "theirs", limit=2), calling("theirs", "nobody")
        for document in (ours, theirs):
            await register(it, document)
        held = str(uuid_utils.uuid7())
        await it.submit(theirs, {"left": 0}, id=held)
        runs = [await it.submit(ours, {"left": 1}) for _ in range(2)]
        await eventually(lambda: len(it.engine._uptake.concurrency.blocked) == 2)
        gate.open.set()
        assert [(await it.finish(run, seconds=5)).status for run in runs] == ["completed"] * 2
