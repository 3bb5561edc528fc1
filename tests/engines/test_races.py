"""What happens at the same time: control and the queue, wakes and departures, ends and outages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.core import commands as c
from app.core import events as e
from app.engines.codec import encode
from app.engines.embedded import EngineLimits
from app.engines.engine import Draining, HandedOver, NotPossible
from app.ports.errors import AlreadyExists, StoreError
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import JournalRow, StatusChange
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.faults import opened
from tests.engines.harness import bench, eventually, llm, workflow
from tests.engines.test_concurrency import limited
from tests.engines.test_embedded import ONE, Gate
from tests.engines.test_nested import transform
from tests.engines.test_waiting import CALL, CHILD, register, until, waiting

QUICK = EngineLimits(poll_seconds=0.02)
ONE_AT_A_TIME = EngineLimits(max_active_runs=1, poll_seconds=0.02)
KEY = {"customer": "a"}


# --- the queue ----------------------------------------------------------------------------------------


async def test_a_queued_run_that_cannot_be_resumed_keeps_its_turn() -> None:
    gate = Gate()
    async with bench(script=gate, limits=ONE_AT_A_TIME) as it:
        first = await it.submit(ONE)
        queued = await it.submit(ONE)
        with pytest.raises(NotPossible):
            await it.engine.resume(queued)
        gate.open.set()
        await it.finish(first)
        assert (await it.finish(queued, seconds=3)).status == "completed"


async def test_a_cancelled_run_that_was_to_begin_next_lets_the_one_after_it_begin() -> None:
    gate = Gate()
    store = await opened()
    async with bench(script=gate, store=store, limits=EngineLimits(poll_seconds=60)) as it:
        runs = [await it.submit(limited("queue"), KEY) for _ in range(3)]
        await eventually(lambda: it.engine._uptake.concurrency.blocked == set(runs[1:]))
        cancelling: asyncio.Task[Any] | None = None

        async def cancel_meanwhile(run_id: str) -> None:
            nonlocal cancelling
            if run_id == runs[1] and cancelling is None:
                cancelling = asyncio.create_task(it.engine.cancel(runs[1], reason=None))
                await eventually(cancelling.done)

        store.on_read = cancel_meanwhile
        gate.open.set()
        assert (await it.finish(runs[0])).status == "completed"
        assert (await it.finish(runs[1])).status == "cancelled"
        assert (await it.finish(runs[2], seconds=3)).status == "completed"
        assert await it.types(runs[1]) == ["RunSubmitted", "CancelRequested", "RunCancelled"]


async def test_a_waiting_run_that_was_paused_and_ended_leaves_nobody_behind() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        runs = [await it.submit(limited("queue"), KEY) for _ in range(3)]
        await eventually(lambda: it.engine._uptake.concurrency.blocked == set(runs[1:]))
        await it.engine.pause(runs[2], reason=None)
        gate.open.set()
        assert (await it.finish(runs[0])).status == "completed"
        await asyncio.sleep(0.1)
        await it.engine.resume(runs[2])
        assert (await it.finish(runs[2])).status == "completed"
        assert (await it.finish(runs[1], seconds=3)).status == "completed"


async def test_runs_of_one_key_that_wait_do_not_hold_up_the_others() -> None:
    gate = Gate()

    async def only_others(request: ChatRequest, context: CallContext) -> str:
        return await gate(request, context) if request.model == "slow" else "ok"

    limits = EngineLimits(max_active_runs=2, poll_seconds=1)
    slow = workflow(llm("a", model="slow"), concurrency={"key": "k", "limit": 1, "on_limit": "queue"})
    store = await opened()
    async with bench(store=store, script=only_others, limits=limits) as it:
        for _ in range(10):
            await it.submit(slow)
        other = await it.submit(ONE)
        await it.engine.drain(0.0)
    async with bench(store=store, script=only_others, limits=limits) as it:
        assert (await it.finish(other, seconds=3)).status == "completed"
        gate.open.set()


async def test_a_run_that_cannot_be_begun_does_not_stop_the_queue() -> None:
    """A defect in what is evaluated at once, met by a run that comes out of the queue."""
    gate = Gate()
    async with bench(script=gate, limits=ONE_AT_A_TIME) as it:
        first = await it.submit(ONE)
        broken = await it.submit(workflow(transform("a", "1", condition="true")))
        sound = await it.submit(ONE)
        now = it.engine._tools.decisions.now

        def fail_or_answer(run: Any, *given: Any) -> Any:
            if run.run_id == broken:
                raise RuntimeError("a defect")
            return now(run, *given)

        it.engine._tools.decisions.now = fail_or_answer  # type: ignore[method-assign,assignment]  # a defect
        gate.open.set()
        assert (await it.finish(first)).status == "completed"
        assert (await it.finish(sound, seconds=3)).status == "completed"
        assert (await it.finish(broken, seconds=3)).status == "failed"


async def test_who_asked_something_of_a_run_in_the_turn_of_a_defect_is_told_at_once() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        run_id = await it.submit(ONE)
        await eventually(lambda: it.chat.in_flight == 1)
        runner = it.engine._fleet.get(run_id)
        assert runner is not None
        observed = it.engine._tools.observer.observed

        def fail_or_observe(run: Any, workflow: Any, history: Any, event: e.Event) -> None:
            if isinstance(event, e.RunPaused) and it.engine._fleet.get(run_id) is runner:
                raise RuntimeError("a defect")
            observed(run, workflow, history, event)

        it.engine._tools.observer.observed = fail_or_observe  # type: ignore[method-assign]  # a defect
        async with asyncio.timeout(3):
            told = await asyncio.gather(
                it.engine.pause(run_id, reason=None),
                it.engine.cancel(run_id, reason=None),
                return_exceptions=True,
            )
        assert [type(one) for one in told] == [HandedOver, HandedOver]
        gate.open.set()
        assert (await it.finish(run_id, seconds=3)).status == "completed"


# --- one runner a run ---------------------------------------------------------------------------------


async def test_a_run_is_not_submitted_again_while_it_is_under_way() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        run_id = await it.submit(ONE)
        with pytest.raises(AlreadyExists):
            await it.submit(ONE, id=run_id)
        assert it.engine.stats().active == 1
        gate.open.set()
        assert (await it.finish(run_id, seconds=3)).status == "completed"
        await eventually(lambda: it.engine.stats().active == 0)


async def test_requests_that_meet_in_a_parked_run_are_all_answered() -> None:
    """The first is read, wakes the run and parks it again before the second has been read."""
    store = await opened()
    document = workflow(
        *({"id": name, "type": "approval", "message": "?"} for name in ("a", "b", "c")),
    )
    async with bench(store=store, limits=QUICK) as it:
        run_id = await it.submit(document)
        await until(it, run_id, waiting)
        await eventually(lambda: it.engine.stats().active == 0)
        reads = 0

        async def hold_the_first(_: str) -> None:
            nonlocal reads
            reads += 1
            if reads == 1:
                await asyncio.sleep(0.2)

        store.on_read = hold_the_first
        answers = [it.engine.answer(run_id, name, action="ok", data=None, by=None) for name in ("a", "b")]
        assert await asyncio.gather(*answers) == [None, None]
        history = await until(it, run_id, waiting)
        assert [history.steps[name].ended_at is not None for name in ("a", "b", "c")] == [True, True, False]


# --- ends ---------------------------------------------------------------------------------------------


async def test_nobody_hears_of_an_end_that_another_writer_refused() -> None:
    store = await opened()
    stolen = False

    async def steal(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
        nonlocal stolen
        if rows[-1].type == "RunCompleted" and not stolen:
            stolen = True
            event = e.CancelRequested(reason="by another process", at=rows[0].at)
            await store.journal.append([encode(rows[0].run_id, rows[0].seq, event)])

    store.on_append = steal
    async with bench(store=store, limits=QUICK) as it:
        run_id = await it.submit(ONE)
        told = await it.finish(run_id)
        stored = await it.read(run_id)
        assert (told.status, stored.status) == ("cancelled", "cancelled")


async def test_nobody_hears_of_an_end_that_could_not_be_stored() -> None:
    store = await opened()
    refused = 0

    async def refuse(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
        nonlocal refused
        if rows[-1].type == "RunCompleted":
            refused += 1
            raise StoreError("too large for this store")

    store.on_append = refuse
    async with bench(store=store, limits=QUICK) as it:
        run_id = await it.submit(ONE)
        told = await it.finish(run_id)
        stored = await it.read(run_id)
        assert refused == 4
        assert (told.status, stored.status) == ("failed", "failed")


async def test_a_run_that_is_given_up_frees_the_place_of_its_key() -> None:
    store = await opened()
    async with bench(store=store, limits=QUICK) as it:

        async def refuse(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
            if rows[0].run_id == bad and rows[-1].type == "RunCompleted":
                raise StoreError("too large for this store")

        store.on_append = refuse
        gate = Gate()
        it.chat.script = gate
        bad = await it.submit(limited("queue"), KEY)
        next_one = await it.submit(limited("queue"), KEY)
        gate.open.set()
        assert (await it.finish(bad)).status == "failed"
        assert (await it.finish(next_one, seconds=3)).status == "completed"


async def test_a_caller_hears_of_a_called_run_that_was_given_up() -> None:
    store = await opened()

    async def refuse(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
        if b"21042" in rows[-1].payload and rows[-1].type == "RunCompleted":
            raise StoreError("too large for this store")

    store.on_append = refuse
    gate = Gate()
    document = workflow(*CALL["steps"], llm("meanwhile"))
    child = {
        **workflow({"id": "rest", "type": "wait", "seconds": 0.05}, transform("x", "21042")),
        "name": "child",
        "outputs": {"n": "{{ steps.x.result }}"},
    }
    async with bench(store=store, script=gate, limits=QUICK) as it:
        await register(it, child)
        run_id = await it.submit(document, {"n": 1})
        await gate.reached.wait()
        await until(it, run_id, lambda history: "call" in history.steps)
        while not (children := await it.store.runs.children("default", run_id)):  # noqa: ASYNC110  as above
            await asyncio.sleep(0.005)
        (called,) = children
        assert (await it.finish(called.id)).status == "failed"
        gate.open.set()
        assert (await it.finish(run_id, seconds=3)).status == "failed"


# --- outages ------------------------------------------------------------------------------------------


async def test_a_full_disk_fails_no_run_that_is_about_to_call_another() -> None:
    store = await opened()
    async with bench(store=store, limits=QUICK) as it:
        await register(it, CHILD)

        async def full_once_the_call_is_stored(rows: Sequence[JournalRow], *_: Any) -> None:
            if rows[-1].type == "ChildStarted":
                asyncio.get_running_loop().call_soon(setattr, store, "full", True)

        store.on_append = full_once_the_call_is_stored
        run_id = await it.submit(CALL, {"n": 2})
        await eventually(lambda: store.refused >= 5)
        store.full = False
        history = await it.finish(run_id)
        assert (history.status, (history.outputs or {}).get("n")) == ("completed", 4)


async def test_a_full_disk_leaves_no_called_run_behind_its_cancelled_caller() -> None:
    store = await opened()
    sleeper = {**workflow({"id": "rest", "type": "wait", "seconds": 600}), "name": "child"}
    limits = EngineLimits(poll_seconds=0.02, cancel_seconds=0.05)
    async with bench(store=store, limits=limits) as it:
        await register(it, sleeper)
        run_id = await it.submit(CALL, {"n": 4})
        await until(it, run_id, waiting)
        (child,) = await it.store.runs.children("default", run_id)

        async def full_once_the_cancellation_is_stored(rows: Sequence[JournalRow], *_: Any) -> None:
            if any(row.type == "CancelRequested" for row in rows) and rows[0].run_id == run_id:
                asyncio.get_running_loop().call_soon(setattr, store, "full", True)

        store.on_append = full_once_the_cancellation_is_stored
        await it.engine.cancel(run_id, reason=None)
        await eventually(lambda: store.full)
        await asyncio.sleep(0.5)
        store.full = False
        assert (await it.finish(run_id)).status == "cancelled"
        row = await it.store.runs.get("default", child.id)
        assert row is not None
        assert row.status == "cancelled"


async def test_a_called_workflow_at_its_limit_fails_the_step_and_not_the_engine() -> None:
    gate = Gate()
    busy = {**limited("reject"), "name": "child"}
    call = {"id": "call", "type": "workflow", "workflow": "child", "inputs": KEY}
    async with bench(script=gate, limits=QUICK) as it:
        await register(it, busy)
        first = await it.submit(busy, KEY)
        history = await it.finish(await it.submit(workflow(call)))
        assert history.status == "failed"
        assert history.failure is not None
        assert (history.failure.error_class, history.failed_path) == ("rate_limit", "call")
        gate.open.set()
        await it.finish(first)


# --- crashes ------------------------------------------------------------------------------------------


async def test_a_paused_run_whose_process_died_still_ends_for_lack_of_time() -> None:
    store = await opened()
    async with bench(store=store, script=Gate(), limits=QUICK) as it:
        run_id = await it.submit(ONE, timeout_seconds=1.0)
        await it.chat.started.wait()
        await it.engine.pause(run_id, reason=None)
    async with bench(store=store, limits=QUICK) as it:
        history = await it.finish(run_id, seconds=4)
        assert history.status == "timed_out"
        assert "AttemptLost" in await it.types(run_id)
        assert it.chat.calls == {}


async def test_a_run_whose_process_let_go_of_it_says_so() -> None:
    store = await opened()
    async with bench(store=store, script=Gate(), limits=QUICK) as it:
        run_id = await it.submit(ONE)
        await it.chat.started.wait()

        async def hold(rows: Sequence[JournalRow], *_: Any) -> None:
            await asyncio.Event().wait()

        store.on_append = hold
        asking = asyncio.create_task(it.engine.pause(run_id, reason=None))
        await asyncio.sleep(0.05)
        await it.engine.drain(0.0)
        with pytest.raises(HandedOver):
            await asking


# --- taking over and letting go -----------------------------------------------------------------------


async def test_no_limit_is_passed_while_a_process_takes_over() -> None:
    store, slot, gate = await opened(), ExecutorSlot(), Gate()
    counting, counted = asyncio.Event(), asyncio.Event()
    count = store.runs.active_by_concurrency_key

    async def count_slowly() -> Any:
        found = await count()
        counting.set()
        await counted.wait()
        return found

    async with (
        bench(store=store, script=gate, lock=MemoryLock(slot), limits=QUICK) as executor,
        bench(store=store, script=gate, lock=MemoryLock(slot), limits=QUICK) as standby,
    ):
        first = await executor.submit(limited("queue"), KEY)
        store.runs.active_by_concurrency_key = count_slowly  # type: ignore[method-assign]  # takes its time
        await executor.engine.drain(0.0)
        await counting.wait()
        submitting = asyncio.create_task(standby.submit(limited("queue"), KEY))
        await asyncio.sleep(0.05)
        counted.set()
        second = await submitting
        await asyncio.sleep(0.1)
        assert [(await standby.read(one)).status for one in (first, second)] == ["running", "pending"]
        gate.open.set()
        assert [(await standby.finish(one)).status for one in (first, second)] == ["completed"] * 2


async def test_nothing_is_driven_between_the_drain_and_the_end_of_the_process() -> None:
    store = await opened()
    flushing, flushed = asyncio.Event(), asyncio.Event()

    async def flush_slowly() -> None:
        flushing.set()
        await flushed.wait()

    async with bench(store=store, script=Gate(), limits=QUICK) as it:
        document = workflow({"id": "ok", "type": "approval", "message": "?"}, llm("a", depends_on=["ok"]))
        parked = await it.submit(document)
        await until(it, parked, waiting)
        keyed = asyncio.Event()
        make_key = it.engine._tools.decisions.concurrency_key

        async def make_slowly(*given: Any) -> str:
            await keyed.wait()
            return await make_key(*given)

        it.engine._tools.decisions.concurrency_key = make_slowly  # type: ignore[method-assign,assignment]  # as above
        late = asyncio.create_task(it.submit(limited("queue"), KEY))
        await asyncio.sleep(0)
        store.flush = flush_slowly  # type: ignore[method-assign]  # as above
        draining = asyncio.create_task(it.engine.drain(0.0))
        await flushing.wait()
        with pytest.raises(Draining):
            await it.engine.answer(parked, "ok", action="approve", data=None, by=None)
        keyed.set()
        assert (await it.read(await late)).status == "pending"
        assert it.engine.stats().active == 0
        flushed.set()
        await draining


# --- rest ---------------------------------------------------------------------------------------------


async def test_a_run_leaves_memory_once_an_answer_has_come_that_nobody_waits_for() -> None:
    fan = {
        "id": "fan",
        "type": "parallel",
        "timeout_seconds": 0.05,
        "tasks": [transform("a", "1", condition="inputs.go")],
        "on_error": {"action": "continue", "value": {}},
    }
    async with bench(limits=QUICK) as it:
        decisions = it.engine._tools.decisions
        now, later = decisions.now, decisions.later

        def leave_conditions(run: Any, data: Any, question: Any) -> Any:
            return None if isinstance(question, c.EvaluateCondition) else now(run, data, question)

        async def answer_too_late(run: Any, data: Any, question: Any) -> Any:
            await asyncio.sleep(0.2)
            return await later(run, data, question)

        decisions.now = leave_conditions  # type: ignore[method-assign]  # as above
        decisions.later = answer_too_late  # type: ignore[method-assign]  # as above
        rest = {"id": "rest", "type": "wait", "seconds": 600, "depends_on": ["fan"]}
        run_id = await it.submit(workflow(fan, rest), {"go": True})
        await until(it, run_id, waiting)
        await eventually(lambda: it.engine.stats().active == 0)


async def test_parked_runs_that_cannot_be_read_keep_no_other_asleep() -> None:
    store = await opened()
    short = workflow({"id": "rest", "type": "wait", "seconds": 1.05})
    async with bench(store=store, limits=ONE_AT_A_TIME) as it:
        strange = await it.submit(short)
        history = await until(it, strange, waiting)
        row = JournalRow(run_id=strange, seq=history.seq + 1, type="SomethingNew", payload=b"{}", at=1.0)
        await store.journal.append([row])
        sound = await it.submit(short)
        assert (await it.finish(sound, seconds=4)).status == "completed"


async def test_a_run_that_decides_a_great_deal_stores_it_in_pieces() -> None:
    store = await opened()
    most = 0

    async def measure(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
        nonlocal most
        most = max(most, len(rows))

    store.on_append = measure
    never = {"steps": [transform("x", "1", condition="1 == 2")], "until": "1 == 2"}
    inner = {"id": "inner", "type": "loop", "max_iterations": 100, **never}
    outer = {"id": "outer", "type": "loop", "max_iterations": 20, "steps": [inner], "until": "1 == 2"}
    async with bench(store=store, limits=QUICK) as it:
        history = await it.run(workflow(outer))
        assert history.status == "completed"
        assert history.seq > 5000
        assert most < 1000
