"""Many runs in one process: admission, cancellation, recovery, standby, drain."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from app.dsl.policies import PlanDefaults
from app.engines.embedded import EngineLimits
from app.engines.engine import Draining, Overloaded, RunEnded
from app.engines.recovery import UnreadableRun
from app.ports.errors import StoreUnavailable
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import JournalRow, RunRow
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.harness import bench, llm, workflow

ONE = workflow(llm("a"))


class Gate:
    """A script that waits until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.reached = asyncio.Event()
        self.aborted = 0

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        self.reached.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        return "ok"


async def test_past_the_queues_bound_a_submission_is_refused_and_stored_nowhere() -> None:
    gate = Gate()
    limits = EngineLimits(max_active_runs=1, max_pending_runs=2, poll_seconds=0.02)
    async with bench(script=gate, limits=limits) as it:
        ids = [await it.submit(ONE) for _ in range(3)]
        with pytest.raises(Overloaded) as refused:
            await it.submit(ONE)
        assert refused.value.retry_after >= 1
        assert await it.store.runs.count(frozenset({"pending", "running"})) == 3
        gate.open.set()
        for run_id in ids:
            assert (await it.finish(run_id)).status == "completed"


async def test_a_queued_run_holds_no_memory_and_starts_by_priority_then_age() -> None:
    gate = Gate()
    order: list[str] = []

    async def note(request: ChatRequest, context: CallContext) -> str:
        order.append(context.run_id)
        return await gate(request, context)

    limits = EngineLimits(max_active_runs=1, poll_seconds=0.02)
    async with bench(script=note, limits=limits) as it:
        first = await it.submit(ONE)
        old = await it.submit(ONE)
        urgent = await it.submit(ONE, priority=5)
        young = await it.submit(ONE)
        assert it.engine.stats().active == 1
        gate.open.set()
        for run_id in (first, old, urgent, young):
            await it.finish(run_id)
    assert order == [first, urgent, old, young]


async def test_cancelling_an_ended_run_is_refused() -> None:
    async with bench() as it:
        run_id = await it.submit(ONE)
        await it.finish(run_id)
        with pytest.raises(RunEnded):
            await it.engine.cancel(run_id, reason=None)


async def test_cancel_aborts_the_call_in_flight_and_tells_what_it_met() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        run_id = await it.submit(workflow(llm("a"), llm("b", "{{ steps.a.text }}"), llm("c", retry="never")))
        await asyncio.wait_for(it.chat.started.wait(), 5)
        receipt = await it.engine.cancel(run_id, reason="enough")
        history = await it.finish(run_id)
        assert list(receipt.calls_aborted) == ["a", "c"]
        assert list(receipt.unknown_effects) == ["c"]
        assert history.status == "cancelled"
        assert history.cancel_reason == "enough"
        assert gate.aborted == 2
        with pytest.raises(RunEnded):
            await it.engine.cancel(run_id, reason=None)
    assert it.chat.calls == {"a": 1, "c": 1}


async def test_a_queued_run_is_cancelled_without_starting() -> None:
    gate = Gate()
    limits = EngineLimits(max_active_runs=1, poll_seconds=0.02)
    async with bench(script=gate, limits=limits) as it:
        await it.submit(ONE)
        queued = await it.submit(ONE)
        await it.engine.cancel(queued, reason=None)
        assert (await it.finish(queued)).status == "cancelled"
        assert await it.types(queued) == ["RunSubmitted", "CancelRequested", "RunCancelled"]


async def test_cancel_and_completion_race_to_one_terminal_event() -> None:
    async def soon(request: ChatRequest, context: CallContext) -> str:
        await asyncio.sleep(0)
        return "ok"

    async with bench(script=soon) as it:
        outcomes = set()
        for hops in range(200):
            run_id = await it.submit(ONE)
            for _ in range(hops % 12):
                await asyncio.sleep(0)
            try:
                await it.engine.cancel(run_id, reason=None)
            except RunEnded:
                outcomes.add("too late")
            history = await it.finish(run_id)
            types = await it.types(run_id)
            terminal = [kind for kind in types if kind in {"RunCompleted", "RunCancelled", "RunFailed"}]
            assert len(terminal) == 1
            assert types[-1] == terminal[0]
            outcomes.add(history.status)
    assert outcomes == {"too late", "completed", "cancelled"}


async def test_another_process_goes_on_where_the_first_died_and_repeats_no_completed_step() -> None:
    store = MemoryStore()
    await store.open()
    gate = Gate()

    async def stop_at_b(request: ChatRequest, context: CallContext) -> str:
        return await gate(request, context) if context.path == "b" else "from the first life"

    document = workflow(
        llm("a"),
        llm("b", "{{ steps.a.text }}"),
        outputs={"a": "{{ steps.a.text }}", "b": "{{ steps.b.text }}"},
    )
    async with bench(store=store, script=stop_at_b) as first:
        run_id = await first.submit(document)
        await asyncio.wait_for(gate.reached.wait(), 5)
    async with bench(store=store) as second:
        history = await second.finish(run_id)
        assert history.outputs == {"a": "from the first life", "b": "b done"}
        assert second.chat.calls == {"b": 1}
        assert "AttemptLost" in await second.types(run_id)


async def test_a_step_that_must_not_repeat_ends_as_outcome_unknown_after_a_crash() -> None:
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=Gate()) as first:
        run_id = await first.submit(workflow(llm("a", retry="never")))
        await asyncio.wait_for(first.chat.started.wait(), 5)
    async with bench(store=store) as second:
        history = await second.finish(run_id)
        assert history.failure is not None
        assert history.failure.error_class == "outcome_unknown"
        assert second.chat.calls == {}


async def test_a_cancellation_that_a_crash_interrupted_is_finished() -> None:
    store = MemoryStore()
    await store.open()

    deaf = asyncio.Event()

    async def stubborn(request: ChatRequest, context: CallContext) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            with suppress(asyncio.CancelledError):
                await deaf.wait()
        return ""

    async with bench(store=store, script=stubborn) as first:
        run_id = await first.submit(ONE)
        await asyncio.wait_for(first.chat.started.wait(), 5)
        await first.engine.cancel(run_id, reason=None)
        assert (await first.read(run_id)).status == "cancelling"
    async with bench(store=store) as second:
        assert (await second.finish(run_id)).status == "cancelled"


async def test_a_standby_accepts_runs_and_takes_over_when_the_executor_is_gone() -> None:
    store = MemoryStore()
    await store.open()
    slot = ExecutorSlot()
    async with (
        bench(store=store, lock=MemoryLock(slot)) as executor,
        bench(store=store, lock=MemoryLock(slot)) as standby,
    ):
        assert standby.engine.stats().role == "standby"
        accepted = await standby.submit(ONE)
        assert (await standby.finish(accepted)).status == "completed"
        assert executor.chat.calls == {"a": 1}
        await executor.engine.drain(0.0)
        later = await standby.submit(ONE)
        assert (await standby.finish(later)).status == "completed"
        assert standby.engine.stats().role == "executor"


async def test_drain_refuses_new_runs_lets_the_others_end_and_keeps_the_rest_for_later() -> None:
    store = MemoryStore()
    await store.open()
    gate = Gate()
    async with bench(store=store, script=gate) as first:
        kept = await first.submit(ONE)
        draining = asyncio.create_task(first.engine.drain(0.05))
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await first.submit(ONE)
        await draining
        assert (await first.read(kept)).status == "running"
    async with bench(store=store) as second:
        assert (await second.finish(kept)).status == "completed"


async def test_a_submitter_that_goes_away_does_not_undo_the_run() -> None:
    async with bench() as it:
        submitting = asyncio.create_task(it.submit(ONE))
        await asyncio.sleep(0)
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        await asyncio.wait_for(it.chat.started.wait(), 5)
    assert it.chat.calls == {"a": 1}


async def test_two_thousand_runs_wait_in_the_store_not_in_memory() -> None:
    limits = EngineLimits(max_active_runs=10, max_pending_runs=10_000, poll_seconds=0.02)
    async with bench(limits=limits) as it:
        ids = [await it.submit(ONE) for _ in range(2000)]
        assert it.engine.stats().active <= 10
        histories = await asyncio.gather(*(it.finish(run_id, seconds=60) for run_id in ids))
    assert {history.status for history in histories} == {"completed"}
    assert it.chat.calls == {"a": 2000}


class ForgetfulStore(MemoryStore):
    """Reading a whole journal fails as often as told."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = 0
        read = self.journal.read

        async def fail_or_read(run_id: str, **options: Any) -> Sequence[JournalRow]:
            if self.failures and not options:
                self.failures -= 1
                raise StoreUnavailable("the disk does not answer")
            return await read(run_id, **options)

        self.journal.read = fail_or_read  # type: ignore[method-assign]  # a store that fails on order


async def test_a_queued_run_that_could_not_be_read_once_is_read_again() -> None:
    store = ForgetfulStore()
    await store.open()
    gate = Gate()
    limits = EngineLimits(max_active_runs=1, poll_seconds=0.02)
    async with bench(store=store, script=gate, limits=limits) as it:
        first = await it.submit(ONE)
        queued = await it.submit(ONE)
        store.failures = 1
        gate.open.set()
        await it.finish(first)
        assert (await it.finish(queued)).status == "completed"


async def test_a_recovery_that_got_stuck_is_completed_by_the_next_pass() -> None:
    store = ForgetfulStore()
    await store.open()
    slot = ExecutorSlot()
    async with bench(store=store, script=Gate(), lock=MemoryLock(slot)) as executor:
        ids = [await executor.submit(ONE) for _ in range(3)]
        async with bench(store=store, lock=MemoryLock(slot)) as standby:
            store.failures = 2
            await executor.engine.drain(0.0)
            for run_id in ids:
                assert (await standby.finish(run_id)).status == "completed"


async def test_a_journal_of_another_version_stops_nobody_else() -> None:
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=Gate()) as first:
        strange = await first.submit(ONE)
        sound = await first.submit(ONE)
    row = JournalRow(run_id=strange, seq=4, type="SomethingNew", payload=b"{}", at=1.0)
    await store.journal.append([row])
    async with bench(store=store) as second:
        assert (await second.finish(sound)).status == "completed"
        assert second.engine.stats().role == "executor"
        assert (await second.run(ONE)).status == "completed"
        with pytest.raises(UnreadableRun):
            await second.read(strange)


async def test_a_run_started_under_a_higher_bound_is_read_and_finished_under_a_lower_one() -> None:
    store = MemoryStore()
    await store.open()
    wide = workflow(*(llm(f"s{n}") for n in range(8)))
    async with bench(store=store, script=Gate()) as first:
        run_id = await first.submit(wide)
        await asyncio.wait_for(first.chat.started.wait(), 5)
    async with bench(store=store, defaults=PlanDefaults(max_concurrency=2)) as second:
        assert (await second.finish(run_id)).status == "completed"
        assert (await second.read(run_id)).status == "completed"


class HidingStore(MemoryStore):
    """Another view of a store, whose lists of unfinished runs are empty."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__()
        self.journal, self.runs, self.inbox = other.journal, other.runs, other.inbox

        async def none(**options: Any) -> Sequence[RunRow]:
            return ()

        self.runs.unfinished = none  # type: ignore[method-assign]  # nothing is found to recover


async def test_cancelling_a_run_that_nobody_drives_starts_nothing_of_it() -> None:
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=Gate()) as first:
        run_id = await first.submit(workflow(llm("a"), llm("b", "{{ steps.a.text }}")))
        await asyncio.wait_for(first.chat.started.wait(), 5)
    hidden = HidingStore(store)
    async with bench(store=hidden) as second:
        await second.engine.cancel(run_id, reason=None)
        assert (await second.finish(run_id)).status == "cancelled"
        assert second.chat.calls == {}
