"""What other processes do to runs that this one takes for its own: a stale executor, or one in between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from app.core import events as e
from app.engines.engine import LimitReached
from app.engines.recovery import RunLoader
from app.ports.errors import StoreError, StoreUnavailable
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import JournalRow, RunRow, StatusChange
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.faults import FaultyStore, opened
from tests.engines.harness import Bench, bench, eventually, llm, workflow
from tests.engines.test_concurrency import limited
from tests.engines.test_distribution import each, items_of, results, until_items
from tests.engines.test_lost_lock import FAST, ONE, SLOW, Gate
from tests.engines.test_waiting import until

KEY = {"customer": "a"}
LONG = {"id": "rest", "type": "wait", "seconds": 600}
SOON = 3.0


async def end_elsewhere(it: Bench, run_id: str) -> None:
    """As a process would that does not know that it lost the lock, and that dies before it tells anybody."""
    failure = e.Failure(error_class="internal", message="elsewhere")
    end = e.RunFailed(path=None, failure=failure, at=time.time())
    assert await RunLoader(it.store, it.catalog).give_up(run_id, end)


# --- places of keys -----------------------------------------------------------------------------------


async def test_a_lock_that_comes_back_finds_nobody_waiting_who_has_ended_meanwhile() -> None:
    slot, store, gate = ExecutorSlot(), await opened(), Gate()
    ours, theirs = MemoryLock(slot), MemoryLock(slot)
    async with bench(store=store, lock=ours, limits=FAST, script=gate.answer) as it:
        runs = [await it.submit(limited("queue"), KEY) for _ in range(3)]
        await it.chat.started.wait()
        await asyncio.sleep(5 * FAST.poll_seconds)
        slot.holder = theirs
        async with bench(store=store, lock=theirs, limits=FAST) as rival:
            for run_id in runs:
                await rival.finish(run_id)
        slot.holder = None
        await eventually(lambda: it.engine.stats().role == "executor")
        first, second = [await it.submit(limited("queue"), KEY) for _ in range(2)]
        await asyncio.sleep(5 * FAST.poll_seconds)
        gate.open.set()
        for run_id in (first, second):
            assert (await it.finish(run_id, SOON)).status == "completed"


async def test_a_run_that_its_last_owner_ends_while_it_is_loaded_frees_its_place() -> None:
    store, gate = await opened(), Gate()
    async with bench(store=store, limits=SLOW, script=gate.answer) as loser:
        run_id = await loser.submit(limited("queue"), KEY)
        await loser.chat.started.wait()
        reading = store.on_read

        async def end_it_first(_run_id: str) -> None:
            store.on_read = reading
            gate.open.set()
            await loser.finish(run_id)

        store.on_read = end_it_first
        async with bench(store=store, limits=FAST) as winner:
            next_one = await winner.submit(limited("queue"), KEY)
            assert (await winner.finish(next_one, SOON)).status == "completed"


async def test_a_run_that_ends_between_the_count_of_places_and_the_recovery_frees_its_place() -> None:
    slot, store, gate = ExecutorSlot(), await opened(), Gate()
    lock = MemoryLock(slot)
    async with bench(store=store, lock=lock, limits=FAST, script=gate.answer) as it:
        run_id = await it.submit(limited("queue"), KEY)
        await it.chat.started.wait()
        count = store.runs.active_by_concurrency_key

        async def count_before_it_ends() -> Mapping[tuple[str, str, str], Sequence[str]]:
            store.runs.active_by_concurrency_key = count  # type: ignore[method-assign]  # takes its time, once
            found = await count()
            gate.open.set()
            await it.finish(run_id)
            return found

        store.runs.active_by_concurrency_key = count_before_it_ends  # type: ignore[method-assign]  # as above
        slot.holder = None
        await eventually(lambda: lock.held)
        await it.finish(run_id)
        next_one = await it.submit(limited("queue"), KEY)
        assert (await it.finish(next_one, SOON)).status == "completed"


@pytest.mark.parametrize("on_limit", ["queue", "reject"])
async def test_a_parked_run_that_was_ended_elsewhere_frees_its_place(on_limit: str) -> None:
    document = workflow(LONG, concurrency=limited(on_limit)["concurrency"])
    async with bench(store=await opened(), limits=FAST) as it:
        parked = await it.submit(document, KEY)
        await until(it, parked, lambda one: one.state.parked)
        await end_elsewhere(it, parked)
        if on_limit == "reject":
            with pytest.raises(LimitReached):
                await it.submit(document, KEY)
            await asyncio.sleep(5 * FAST.poll_seconds)
        next_one = await it.submit(document, KEY)
        await until(it, next_one, lambda one: one.state.parked)


async def test_a_run_that_the_loser_began_takes_a_place_of_its_key() -> None:
    store, stuck, gate = await opened(), Gate(), Gate()
    async with (
        bench(store=store, limits=SLOW, script=stuck.answer) as loser,
        bench(store=store, limits=FAST, script=gate.answer) as winner,
    ):
        stray = await loser.submit(limited("queue"), KEY)
        await loser.chat.started.wait()
        await loser.engine.drain(0.0)
        await eventually(lambda: winner.engine.stats().active == 1)
        next_one = await winner.submit(limited("queue"), KEY)
        await asyncio.sleep(5 * FAST.poll_seconds)
        assert (await winner.read(next_one)).status == "pending"
        gate.open.set()
        for run_id in (stray, next_one):
            assert (await winner.finish(run_id, SOON)).status == "completed"


async def test_a_run_whose_begin_could_not_be_stored_does_not_wait_for_its_own_place() -> None:
    store, gate = await opened(), Gate()
    async with bench(store=store, limits=FAST, script=gate.answer) as it:
        first = await it.submit(limited("queue"), KEY)
        second = await it.submit(limited("queue"), KEY)
        refused = 0

        async def refuse_once(rows: Sequence[JournalRow], _change: StatusChange | None) -> None:
            nonlocal refused
            if rows[0].run_id == second and not refused:
                refused += 1
                raise StoreError("cannot be stored")

        store.on_append = refuse_once
        gate.open.set()
        await it.finish(first)
        assert (await it.finish(second, SOON)).status == "completed"
        assert refused == 1


@pytest.mark.parametrize("out", ["the list", "the journal"])
async def test_the_newest_run_takes_the_place_of_the_oldest_once_the_store_can_be_read_again(
    out: str,
) -> None:
    store = await opened()
    document = workflow(LONG, concurrency=limited("cancel_oldest")["concurrency"])
    async with bench(store=store, limits=FAST) as it:
        oldest = await it.submit(document, KEY)
        await until(it, oldest, lambda one: one.state.parked)
        _fail(store, out, oldest, times=3)
        await it.submit(document, KEY)
        assert (await it.finish(oldest, SOON)).status == "cancelled"


def _fail(store: FaultyStore, out: str, run_id: str, *, times: int) -> None:
    left, overtaken, reading = times, store.runs.overtaken, store.on_read

    def fail() -> None:
        nonlocal left
        if left:
            left -= 1
            raise StoreUnavailable("away")

    async def list_or_fail(*given: Any, **more: Any) -> Sequence[RunRow]:
        fail()
        return await overtaken(*given, **more)

    async def read_or_fail(read: str) -> None:
        if read == run_id:
            fail()
        await reading(read)

    if out == "the list":
        store.runs.overtaken = list_or_fail  # type: ignore[method-assign]  # a store that fails on order
    else:
        store.on_read = read_or_fail


# --- ends that nobody told ----------------------------------------------------------------------------


async def test_a_map_hears_of_an_item_that_another_process_ended_under_its_runner() -> None:
    gate = Gate()
    async with bench(store=await opened(), limits=FAST, script=gate.answer) as it:
        run_id = await it.submit(results(each(llm("say"))), {"xs": [1]})
        await it.chat.started.wait()
        (item,) = await items_of(it, run_id)
        await end_elsewhere(it, item.id)
        gate.open.set()
        assert (await it.finish(run_id, SOON)).status == "failed"


async def test_a_map_hears_of_a_parked_item_that_was_ended_elsewhere_while_the_map_was_awake() -> None:
    async with bench(store=await opened(), limits=FAST) as it:
        run_id = await it.submit(results(each(LONG)), {"xs": [1]})
        await until_items(it, run_id, {"waiting": 1})
        (item,) = await items_of(it, run_id)
        await end_elsewhere(it, item.id)
        assert not (await it.read(run_id)).state.parked
        assert (await it.finish(run_id, 2 * SOON)).status == "failed"


async def test_a_run_that_two_executors_take_from_each_other_does_not_fail_by_it() -> None:
    store, slot = await opened(), ExecutorSlot()

    async def slowly(_request: ChatRequest, _context: CallContext) -> str:
        await asyncio.sleep(5 * FAST.poll_seconds)
        return "done"

    stale = MemoryLock(slot)
    async with (
        bench(store=store, lock=stale, limits=FAST, script=slowly) as loser,
        bench(store=store, limits=FAST, script=slowly) as winner,
    ):
        types: list[str] = []
        async with asyncio.timeout(20):
            while types.count("AttemptLost") < 10:
                # Where the machine stands still for longer than a call takes, the run ends before its time.
                if types[-1:] in ([], ["RunCompleted"]):
                    run_id = await loser.submit(ONE)
                await asyncio.sleep(0.01)
                types = await winner.types(run_id)
        slot.holder = MemoryLock(slot)
        assert (await winner.finish(run_id)).status == "completed"
