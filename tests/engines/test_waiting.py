"""Runs that wait: for a time, for a person, for another run, for the end of a pause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from app.engines.called_runs import MAX_DEPTH
from app.engines.engine import NotPossible, RunEnded
from app.engines.history import History
from app.ports.runs import RunFilter, WorkflowRow
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, llm, workflow
from tests.engines.test_nested import transform


async def until(it: Bench, run_id: str, holds: Callable[[History], bool]) -> History:
    """The stored run once that holds."""
    async with asyncio.timeout(5):
        while not holds(history := await it.read(run_id)):  # noqa: ASYNC110  the store tells nobody
            await asyncio.sleep(0.01)
    return history


def waiting(history: History) -> bool:
    return history.status == "waiting"


WAIT = workflow(transform("a", "1"), {"id": "rest", "type": "wait", "seconds": 60, "depends_on": ["a"]})
ASK = workflow(
    {"id": "ok", "type": "approval", "message": "send {{ inputs.what }}?", "form": {"type": "object"}},
    transform("said", "steps.ok.action ~ ' ' ~ steps.ok.data.why ~ ' ' ~ steps.ok.by"),
    outputs={"said": "{{ steps.said.result }}"},
)


async def test_a_run_that_waits_leaves_memory_and_says_when_it_is_due() -> None:
    async with bench() as it:
        run_id = await it.submit(WAIT)
        history = await until(it, run_id, waiting)
        assert history.wake_at == pytest.approx(history.submitted_at + 60, abs=5)
        async with asyncio.timeout(2):
            while it.engine.stats().active:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)


async def test_a_wait_that_is_over_goes_on_by_itself() -> None:
    document = workflow(
        {"id": "rest", "type": "wait", "seconds": 1.2}, transform("b", "2", depends_on="rest")
    )
    async with bench() as it:
        run_id = await it.submit(document)
        await until(it, run_id, waiting)
        history = await it.finish(run_id)
        assert history.status == "completed"
        assert (await it.types(run_id)).count("WaitOver") == 1


async def test_a_wait_goes_on_in_another_process() -> None:
    document = workflow(
        {"id": "rest", "type": "wait", "seconds": 1.2}, transform("b", "2", depends_on="rest")
    )
    store = MemoryStore()
    await store.open()
    async with bench(store=store) as it:
        run_id = await it.submit(document)
        await until(it, run_id, waiting)
    async with bench(store=store) as it:
        assert (await it.finish(run_id)).status == "completed"


async def test_an_answer_is_what_an_approval_brings() -> None:
    async with bench() as it:
        run_id = await it.submit(ASK, {"what": "it"})
        await until(it, run_id, waiting)
        (asked,) = await it.store.approvals.list("default", statuses=frozenset({"pending"}), limit=9)
        assert (asked.run_id, asked.path, asked.message) == (run_id, "ok", "send it?")
        await it.engine.answer(run_id, "ok", action="approve", data={"why": "fine"}, by="ann")
        assert (await it.finish(run_id)).outputs == {"said": "approve fine ann"}
        answered = await it.store.approvals.get("default", asked.id)
        assert answered is not None
        assert (answered.status, answered.action, answered.answered_by) == ("answered", "approve", "ann")


async def test_a_second_answer_is_refused() -> None:
    document = workflow(
        {"id": "ok", "type": "approval", "message": "?"}, {"id": "rest", "type": "wait", "seconds": 60}
    )
    async with bench() as it:
        run_id = await it.submit(document)
        await until(it, run_id, waiting)
        await it.engine.answer(run_id, "ok", action="approve", data=None, by=None)
        with pytest.raises(NotPossible):
            await it.engine.answer(run_id, "ok", action="reject", data=None, by=None)


@pytest.mark.parametrize(
    ("on_timeout", "status", "action"),
    [("fail", "failed", None), ("approve", "completed", "approve"), ("reject", "completed", "reject")],
)
async def test_silence_means_what_the_step_says(on_timeout: str, status: str, action: str | None) -> None:
    step = {
        "id": "ok",
        "type": "approval",
        "message": "?",
        "timeout_seconds": 0.1,
        "on_timeout": on_timeout,
    }
    async with bench() as it:
        history = await it.finish(await it.submit(workflow(step)))
        assert history.status == status
        assert (history.steps["ok"].outputs or {}).get("action") == action
        (row,) = await it.store.approvals.list("default", statuses=frozenset({"expired"}), limit=9)
        assert row.path == "ok"


async def test_a_cancelled_run_waits_for_nobody() -> None:
    async with bench() as it:
        run_id = await it.submit(ASK, {"what": "it"})
        await until(it, run_id, waiting)
        await it.engine.cancel(run_id, reason=None)
        assert (await it.finish(run_id)).status == "cancelled"
        (row,) = await it.store.approvals.list("default", statuses=frozenset({"cancelled"}), limit=9)
        assert row.path == "ok"
        with pytest.raises(RunEnded):
            await it.engine.answer(run_id, "ok", action="approve", data=None, by=None)


async def test_a_paused_run_starts_nothing_until_it_is_resumed() -> None:
    async with bench() as it:
        release = asyncio.Event()

        async def slow(*_: Any) -> str:
            await release.wait()
            return "x"

        it.chat.script = slow
        run_id = await it.submit(workflow(llm("a"), llm("b", depends_on=["a"])))
        await it.chat.started.wait()
        await it.engine.pause(run_id, reason="look first")
        with pytest.raises(NotPossible):
            await it.engine.pause(run_id, reason=None)
        release.set()
        history = await until(it, run_id, lambda one: one.state.parked)
        assert history.status == "paused"
        assert set(history.steps) == {"a"}
        await it.engine.resume(run_id)
        assert (await it.finish(run_id)).status == "completed"
        with pytest.raises(RunEnded):
            await it.engine.resume(run_id)


async def register(it: Bench, document: dict[str, Any]) -> None:
    compiled = it.catalog.compile(document)
    row = WorkflowRow(
        tenant="default",
        name=compiled.name,
        version=compiled.version,
        revision=0,
        definition_hash=compiled.definition.hash,
        description=None,
    )
    await it.store.workflows.register(row, compiled.definition)


CHILD = {
    **workflow(transform("double", "inputs.n * 2"), outputs={"n": "{{ steps.double.result }}"}),
    "name": "child",
}
CALL = workflow(
    {"id": "call", "type": "workflow", "workflow": "child", "inputs": {"n": "{{ inputs.n }}"}},
    outputs={"n": "{{ steps.call.n }}", "id": "{{ steps.call.run_id }}"},
)


async def test_a_called_workflow_brings_its_outputs() -> None:
    async with bench() as it:
        await register(it, CHILD)
        history = await it.finish(await it.submit(CALL, {"n": 4}))
        assert history.status == "completed", history.failure
        assert history.outputs["n"] == 8
        child = await it.store.runs.get("default", history.outputs["id"])
        assert child is not None
        assert (child.status, child.parent_run_id) == ("completed", history.state.run_id)


async def test_a_workflow_that_is_not_registered_fails_the_call() -> None:
    async with bench() as it:
        history = await it.finish(await it.submit(CALL, {"n": 4}))
        assert history.failure is not None
        assert (history.failure.error_class, history.failed_path) == ("not_found", "call")


async def test_a_called_run_does_not_outlive_its_cancelled_caller() -> None:
    sleeper = {**workflow({"id": "rest", "type": "wait", "seconds": 600}), "name": "child"}
    async with bench() as it:
        await register(it, sleeper)
        run_id = await it.submit(CALL, {"n": 4})
        await until(it, run_id, waiting)
        (child,) = await it.store.runs.children("default", run_id)
        await it.engine.cancel(run_id, reason=None)
        assert (await it.finish(run_id)).status == "cancelled"
        row = await it.store.runs.get("default", child.id)
        assert row is not None
        assert row.status == "cancelled"


async def test_nobody_waits_for_a_detached_call() -> None:
    sleeper = {**workflow({"id": "rest", "type": "wait", "seconds": 600}), "name": "child"}
    document = workflow({"id": "call", "type": "workflow", "workflow": "child", "wait": False})
    async with bench() as it:
        await register(it, sleeper)
        history = await it.finish(await it.submit(document))
        assert history.status == "completed"
        run_id = (history.steps["call"].outputs or {})["run_id"]
        assert (await until(it, run_id, waiting)).caller == (history.state.run_id, "call")


async def test_a_block_that_takes_too_long_is_stopped() -> None:
    document = workflow(
        {
            "id": "fan",
            "type": "parallel",
            "timeout_seconds": 0.2,
            "tasks": [llm("a"), {"id": "rest", "type": "wait", "seconds": 600}],
        }
    )
    async with bench() as it:

        async def forever(*_: Any) -> str:
            await asyncio.Event().wait()
            return ""

        it.chat.script = forever
        history = await it.finish(await it.submit(document))
        assert history.failure is not None
        assert (history.status, history.failure.error_class) == ("failed", "timeout")


@pytest.mark.parametrize("waits", [True, False])
async def test_a_workflow_that_calls_itself_comes_to_an_end(waits: bool) -> None:
    document = {
        **workflow({"id": "call", "type": "workflow", "workflow": "endless", "wait": waits}),
        "name": "endless",
    }
    async with bench() as it:
        await register(it, document)
        history = await it.finish(await it.submit(document), seconds=20)
        assert history.status == ("failed" if waits else "completed")
        async with asyncio.timeout(10):
            while await it.store.runs.active_of_workflow("default", "endless"):  # noqa: ASYNC110  as above
                await asyncio.sleep(0.01)
        runs = await it.store.runs.list("default", RunFilter(), limit=100)
        assert len(runs) == MAX_DEPTH + 1
