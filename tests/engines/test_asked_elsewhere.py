"""What a process that stands by is asked of runs reaches the one that executes, whoever dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from app.engines.embedded import EngineLimits
from app.engines.engine import CancelPending, NotPossible, RunEnded
from app.engines.recovery import RunLoader
from app.ports.errors import StoreError, StoreUnavailable
from app.ports.inbox import ControlRow
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.faults import opened
from tests.engines.harness import Bench, SetClock, bench, eventually, llm, workflow

HOUR = 3600.0
CONTROL = "0197d6a0-7c1e-7000-8000-00000000c0de"
LIMITS = EngineLimits(poll_seconds=0.02, cancel_seconds=2.0)
HASTY = EngineLimits(poll_seconds=0.02, cancel_seconds=0.05)
ONE = workflow(llm("a"))
RESTS = workflow({"id": "rest", "type": "wait", "seconds": 600})
ASKS = workflow(
    {"id": "ask", "type": "approval", "message": "Send it?"},
    outputs={"said": "{{ [steps.ask.action, steps.ask.data, steps.ask.by] }}"},
)


async def never(*_: Any) -> str:
    """A model that does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Pair:
    """An executor and a standby on one store."""

    store: MemoryStore
    executor: Bench
    standby: Bench

    async def until(self, run_id: str, status: str) -> None:
        """The run is stored as that."""
        async with asyncio.timeout(5):
            while (await self.store.runs.statuses([run_id])).get(run_id) != status:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.005)

    async def outcomes(self, run_id: str) -> list[str | None]:
        """What became of what was asked of a run, the oldest first."""
        rows = (row for row in self.store._data.inbox.values() if row.run_id == run_id)
        return [row.outcome for row in sorted(rows, key=lambda row: (row.at, row.id))]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    store, slot = await opened(), ExecutorSlot()
    async with (
        bench(store=store, lock=MemoryLock(slot), limits=LIMITS, script=never) as executor,
        bench(store=store, lock=MemoryLock(slot), limits=LIMITS) as standby,
    ):
        yield Pair(store, executor, standby)


# --- what is asked, happens ---------------------------------------------------------------------------


async def test_a_call_in_flight_is_aborted(pair: Pair) -> None:
    run_id = await pair.standby.submit(ONE)
    await eventually(lambda: pair.executor.chat.in_flight == 1)
    receipt = await pair.standby.engine.cancel(run_id, reason="enough")
    assert receipt.calls_aborted == ["a"]
    assert (await pair.standby.finish(run_id)).status == "cancelled"
    assert pair.executor.chat.in_flight == 0
    assert await pair.outcomes(run_id) == ["stored"]


async def test_a_run_that_rests_is_paused_and_goes_on(pair: Pair) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")
    await pair.standby.engine.pause(run_id, reason="look at it")
    await pair.until(run_id, "paused")
    await pair.standby.engine.resume(run_id)
    await pair.until(run_id, "waiting")
    assert await pair.outcomes(run_id) == ["stored", "stored"]


async def test_an_approval_is_answered(pair: Pair) -> None:
    run_id = await pair.executor.submit(ASKS)
    await pair.until(run_id, "waiting")
    await pair.standby.engine.answer(run_id, "ask", action="approve", data={"n": 1}, by="ada")
    run = await pair.standby.finish(run_id)
    assert run.status == "completed"
    assert run.outputs == {"said": ["approve", {"n": 1}, "ada"]}


async def test_a_queued_run_is_cancelled(pair: Pair) -> None:
    store, slot = await opened(), ExecutorSlot()
    limits = EngineLimits(max_active_runs=1, poll_seconds=0.02)
    async with (
        bench(store=store, lock=MemoryLock(slot), limits=limits, script=never) as executor,
        bench(store=store, lock=MemoryLock(slot), limits=LIMITS) as standby,
    ):
        await executor.submit(ONE)
        queued = await executor.submit(ONE)
        await standby.engine.cancel(queued, reason=None)
        assert (await standby.finish(queued)).status == "cancelled"


async def test_many_at_once_take_effect_once_each(pair: Pair) -> None:
    runs = [await pair.executor.submit(RESTS) for _ in range(50)]
    for run_id in runs:
        await pair.until(run_id, "waiting")
    asked = [pair.standby.engine.cancel(run_id, reason=None) for run_id in runs for _ in range(3)]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    # Who asks while the same waits already asks for that; who asks later hears that it has ended.
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, RunEnded) for outcome in refused)
    assert len(outcomes) - len(refused) >= len(runs)
    for run_id in runs:
        assert (await pair.executor.types(run_id)).count("CancelRequested") == 1


async def test_it_happens_by_the_executors_clock() -> None:
    store, slot, fast = await opened(), ExecutorSlot(), SetClock()
    fast.by = HOUR
    async with (
        bench(store=store, lock=MemoryLock(slot), limits=LIMITS) as executor,
        bench(store=store, lock=MemoryLock(slot), limits=LIMITS, clock=fast) as standby,
    ):
        run_id = await executor.submit(ASKS)
        await Pair(store, executor, standby).until(run_id, "waiting")
        await standby.engine.answer(run_id, "ask", action="approve", data=None, by=None)
        await standby.finish(run_id)
        times = [row.at for row in await store.journal.read(run_id)]
    assert max(times) - min(times) < HOUR / 2


# --- what cannot happen, is refused -------------------------------------------------------------------


async def test_what_cannot_happen_any_more_is_refused_as_by_the_executor(pair: Pair) -> None:
    resting, ended = await pair.executor.submit(RESTS), await pair.executor.submit(RESTS)
    await pair.until(resting, "waiting")
    await pair.executor.engine.cancel(ended, reason=None)
    await pair.executor.finish(ended)

    async def told(engine: Any, what: Callable[[Any], Awaitable[Any]]) -> str:
        with pytest.raises((RunEnded, NotPossible)) as refused:
            await what(engine)
        return f"{type(refused.value).__name__}: {refused.value}"

    for what in (
        lambda engine: engine.cancel(ended, reason=None),
        lambda engine: engine.pause(ended, reason=None),
        lambda engine: engine.resume(resting),
        lambda engine: engine.answer(resting, "rest", action="approve", data=None, by=None),
        lambda engine: engine.cancel("nobody", reason=None),
    ):
        assert await told(pair.standby.engine, what) == await told(pair.executor.engine, what)
    assert await pair.outcomes(resting) == ["refused", "refused"]


async def test_what_this_version_cannot_read_is_refused_and_stops_nobody(pair: Pair) -> None:
    strange, other = await pair.executor.submit(RESTS), await pair.executor.submit(RESTS)
    await pair.until(strange, "waiting")
    control = ControlRow(id=CONTROL, run_id=strange, type="RunBlessed", payload=b"{}", at=0.0)
    await pair.store.inbox.put(control)
    await pair.standby.engine.cancel(other, reason=None)
    assert await pair.outcomes(strange) == ["refused"]
    assert (await pair.executor.read(strange)).status == "waiting"


async def test_a_control_of_a_run_that_cannot_be_read_is_refused_and_stops_nobody(pair: Pair) -> None:
    unreadable, other = await pair.executor.submit(RESTS), await pair.executor.submit(RESTS)
    await pair.until(unreadable, "waiting")
    rows = pair.store._data.journal[unreadable]
    rows[0] = replace(rows[0], type="RunConjured")
    await pair.store.inbox.put(
        ControlRow(id=CONTROL, run_id=unreadable, type="CancelRequested", payload=b'{"reason":null}', at=0.0)
    )
    await pair.standby.engine.cancel(other, reason=None)
    assert await pair.outcomes(unreadable) == ["refused"]


async def test_a_run_that_cannot_be_asked_stops_nobody(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged, other = await pair.executor.submit(RESTS), await pair.executor.submit(RESTS)
    await pair.until(damaged, "waiting")
    await pair.until(other, "waiting")
    read = pair.store.journal.read

    async def broken(run_id: str, **options: Any) -> Any:
        if run_id == damaged:
            raise StoreError("a page of the database is damaged")
        return await read(run_id, **options)

    monkeypatch.setattr(pair.store.journal, "read", broken)
    await pair.store.inbox.put(
        ControlRow(id=CONTROL, run_id=damaged, type="CancelRequested", payload=b'{"reason":null}', at=0.0)
    )
    await pair.standby.engine.cancel(other, reason=None)
    assert await pair.outcomes(other) == ["stored"]


# --- whoever dies in between --------------------------------------------------------------------------


async def test_what_nobody_took_up_is_kept_and_happens_when_somebody_executes() -> None:
    store, slot = await opened(), ExecutorSlot()
    async with AsyncExitStack() as first:
        executor = await first.enter_async_context(bench(store=store, lock=MemoryLock(slot), limits=LIMITS))
        run_id = await executor.submit(RESTS)
        await Pair(store, executor, executor).until(run_id, "waiting")
    slot.holder = elsewhere = MemoryLock(slot)
    async with bench(store=store, lock=MemoryLock(slot), limits=HASTY) as standby:
        with pytest.raises(CancelPending, match="is kept"):
            await standby.engine.cancel(run_id, reason=None)
        assert (await standby.read(run_id)).status == "waiting"
        assert slot.holder is elsewhere
        slot.holder = None
        assert (await standby.finish(run_id)).status == "cancelled"
        await eventually(lambda: all(row.outcome for row in store._data.inbox.values()))
        assert await Pair(store, standby, standby).outcomes(run_id) == ["stored"]


async def test_between_the_same_and_the_same_there_may_be_something_else() -> None:
    store, slot = await opened(), ExecutorSlot()
    async with bench(store=store, lock=MemoryLock(slot), limits=LIMITS) as executor:
        run_id = await executor.submit(RESTS)
        await Pair(store, executor, executor).until(run_id, "waiting")
    slot.holder = MemoryLock(slot)
    async with bench(store=store, lock=MemoryLock(slot), limits=HASTY) as standby:
        engine = standby.engine
        for ask in (
            engine.pause(run_id, reason=None),
            engine.resume(run_id),
            engine.pause(run_id, reason=None),
        ):
            with pytest.raises(CancelPending):
                await ask
        slot.holder = None
        pair = Pair(store, standby, standby)
        await eventually(lambda: all(row.outcome for row in store._data.inbox.values()))
        assert await pair.outcomes(run_id) == ["stored", "stored", "stored"]
        await pair.until(run_id, "paused")


async def test_a_run_that_could_not_be_asked_once_is_asked_again(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")
    monkeypatch.setattr("app.engines.asked_elsewhere.LEFT_SECONDS", 0.1)
    unsettled, failures = pair.store.inbox.unsettled, 0

    async def failing(run_ids: Collection[str]) -> Sequence[ControlRow]:
        nonlocal failures
        if asyncio.current_task() is pair.executor.engine._supervisor and not failures:
            failures += 1
            raise ConnectionResetError
        return await unsettled(run_ids)

    monkeypatch.setattr(pair.store.inbox, "unsettled", failing)
    await pair.standby.engine.pause(run_id, reason=None)
    assert failures == 1


async def test_a_request_that_is_repeated_while_nobody_executes_is_one() -> None:
    cleans_up = workflow(
        {"id": "rest", "type": "wait", "seconds": 600},
        **{"finally": [llm("tidy"), llm("up", "{{ steps.tidy.text }}")]},
    )
    store, slot = await opened(), ExecutorSlot()
    async with bench(store=store, lock=MemoryLock(slot), limits=LIMITS) as executor:
        run_id = await executor.submit(cleans_up)
        await Pair(store, executor, executor).until(run_id, "waiting")
    slot.holder = MemoryLock(slot)
    async with bench(store=store, lock=MemoryLock(slot), limits=HASTY) as standby:
        for _ in range(3):
            with pytest.raises(CancelPending):
                await standby.engine.cancel(run_id, reason=None)
        slot.holder = None
        assert (await standby.finish(run_id)).status == "cancelled"
    assert await Pair(store, standby, standby).outcomes(run_id) == ["stored"]
    assert standby.chat.calls == {"finally.tidy": 1, "finally.up": 1}


async def test_a_queued_run_that_was_cancelled_while_nobody_executed_begins_nothing() -> None:
    store, slot = await opened(), ExecutorSlot()
    slot.holder = MemoryLock(slot)
    async with bench(store=store, lock=MemoryLock(slot), limits=HASTY) as standby:
        run_id = await standby.submit(ONE)
        with pytest.raises(CancelPending):
            await standby.engine.cancel(run_id, reason=None)
        slot.holder = None
        assert (await standby.finish(run_id)).status == "cancelled"
    assert standby.chat.calls == {}


async def test_an_executor_that_drains_still_does_what_is_asked_of_the_runs_that_it_has(pair: Pair) -> None:
    run_id = await pair.executor.submit(ONE)
    await eventually(lambda: pair.executor.chat.in_flight == 1)
    draining = asyncio.create_task(pair.executor.engine.drain(60.0))
    await asyncio.sleep(0)
    await pair.standby.engine.cancel(run_id, reason=None)
    await asyncio.wait_for(draining, 5)
    assert (await pair.standby.finish(run_id)).status == "cancelled"
    assert pair.standby.chat.calls == {}


async def test_a_cancel_that_ended_its_run_is_confirmed_before_it_is_settled(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")

    async def never_settled(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(pair.store.inbox, "settle", never_settled)
    await pair.standby.engine.cancel(run_id, reason=None)
    assert (await pair.standby.finish(run_id)).status == "cancelled"


async def test_an_outcome_that_cannot_be_read_for_a_moment_is_waited_for(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")
    get, failures = pair.store.inbox.get, 0

    async def failing(control_id: str) -> ControlRow | None:
        nonlocal failures
        failures += 1
        if failures <= 3:
            raise StoreUnavailable("the disk does not answer")
        return await get(control_id)

    monkeypatch.setattr(pair.store.inbox, "get", failing)
    await pair.standby.engine.pause(run_id, reason=None)
    assert failures > 3


async def test_what_is_in_the_journal_already_does_not_happen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The executor dies between the event and the note of what became of the control."""
    store, slot = await opened(), ExecutorSlot()
    settle = store.inbox.settle

    async def out_of_order(*_: Any) -> None:
        raise StoreUnavailable("the disk does not answer")

    monkeypatch.setattr(store.inbox, "settle", out_of_order)
    async with AsyncExitStack() as stack:
        standby_at = MemoryLock(slot)
        executor = await stack.enter_async_context(bench(store=store, lock=MemoryLock(slot), limits=LIMITS))
        standby = await stack.enter_async_context(bench(store=store, lock=standby_at, limits=LIMITS))
        run_id = await executor.submit(RESTS)
        await Pair(store, executor, standby).until(run_id, "waiting")
        pausing = asyncio.create_task(standby.engine.pause(run_id, reason=None))
        await Pair(store, executor, standby).until(run_id, "paused")
        slot.holder = standby_at  # it is gone, as far as the others know
        monkeypatch.setattr(store.inbox, "settle", settle)
        await pausing
        assert await Pair(store, executor, standby).outcomes(run_id) == ["stored"]
        assert (await RunLoader(store, standby.catalog).load(run_id)) is not None
        assert (await standby.types(run_id)).count("RunPaused") == 1


async def test_an_executor_that_drains_leaves_it_to_the_next(pair: Pair) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")
    draining = asyncio.create_task(pair.executor.engine.drain(0.0))
    await pair.standby.engine.cancel(run_id, reason=None)
    await draining
    assert (await pair.standby.finish(run_id)).status == "cancelled"
    assert await pair.outcomes(run_id) == ["stored"]


async def test_a_stop_does_not_wait_for_a_store_that_is_out_of_order(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")
    settle = pair.store.inbox.settle

    async def out_of_order(*_: Any) -> None:
        raise StoreUnavailable("the disk does not answer")

    monkeypatch.setattr(pair.store.inbox, "settle", out_of_order)
    pausing = asyncio.create_task(pair.standby.engine.pause(run_id, reason=None))
    await pair.until(run_id, "paused")
    facts = pair.executor.engine._asked._facts
    await facts.stop(seconds=0.05)
    assert not facts._settling
    monkeypatch.setattr(pair.store.inbox, "settle", settle)
    await pausing  # the executor's next look finds it in the journal
    assert await pair.outcomes(run_id) == ["stored"]


async def test_a_store_that_fails_meanwhile_loses_nothing(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await pair.executor.submit(RESTS)
    await pair.until(run_id, "waiting")
    read, failures = pair.store.journal.read, 0

    async def failing(run: str, **options: Any) -> Any:
        nonlocal failures
        if run == run_id and asyncio.current_task() is pair.executor.engine._supervisor and failures < 3:
            failures += 1
            raise StoreUnavailable("the disk does not answer")
        return await read(run, **options)

    monkeypatch.setattr(pair.store.journal, "read", failing)
    await pair.standby.engine.cancel(run_id, reason=None)
    assert failures == 3
    assert (await pair.standby.finish(run_id)).status == "cancelled"


async def test_controls_are_forgotten_after_a_day() -> None:
    store, slot, clock = await opened(), ExecutorSlot(), SetClock()
    async with bench(store=store, lock=MemoryLock(slot), limits=LIMITS, clock=clock) as executor:
        old = ControlRow(
            id="c1",
            run_id="gone",
            type="RunPaused",
            payload=b"{}",
            at=clock.now() - 25 * HOUR,
            outcome="stored",
        )
        await store.inbox.put(old)
        kept = ControlRow(
            id="c2",
            run_id="gone",
            type="RunPaused",
            payload=b"{}",
            at=clock.now() - 23 * HOUR,
            outcome="stored",
        )
        await store.inbox.put(kept)
        await asyncio.sleep(0.1)
        assert executor.engine.stats().role == "executor"
        assert set(store._data.inbox) == {"c1", "c2"}  # an hour has not gone by since the last look
    async with bench(store=store, lock=MemoryLock(ExecutorSlot()), limits=LIMITS, clock=clock):
        assert set(store._data.inbox) == {"c2"}
