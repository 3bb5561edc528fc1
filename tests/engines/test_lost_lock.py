"""What an engine does when the executor lock is taken from it while runs are under way."""

from __future__ import annotations

import asyncio

from app.engines.embedded import EngineLimits
from app.ports.models import CallContext, ChatRequest
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.harness import Bench, bench, llm, workflow

ONE = workflow(llm("say"))
FAST = EngineLimits(poll_seconds=0.02)
SLOW = EngineLimits(poll_seconds=60.0)


class Gate:
    """A model that answers when it is let."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def answer(self, request: ChatRequest, context: CallContext) -> str:
        await self.open.wait()
        return "done"


async def stands_by(engine: Bench) -> None:
    async with asyncio.timeout(10):
        while engine.chat.in_flight:  # noqa: ASYNC110  calls that are aborted have no event
            await asyncio.sleep(0.01)


async def test_calls_are_aborted_and_the_rival_that_has_the_lock_ends_the_run() -> None:
    slot, store, stuck, free = ExecutorSlot(), MemoryStore(), Gate(), Gate()
    await store.open()
    free.open.set()
    ours, theirs = MemoryLock(slot), MemoryLock(slot)
    async with (
        bench(store=store, lock=ours, limits=FAST, script=stuck.answer) as loser,
        bench(store=store, lock=theirs, limits=FAST, script=free.answer) as winner,
    ):
        run_id = await loser.submit(ONE)
        await loser.chat.started.wait()
        waiting = asyncio.create_task(loser.finish(run_id))
        slot.holder = theirs
        await stands_by(loser)
        winner.engine.look()
        assert (await winner.finish(run_id)).status == "completed"
        assert (await waiting).status == "completed"
        assert loser.engine.stats().role == "standby"
        assert loser.engine.stats().active == 0


async def test_a_lock_that_comes_back_goes_on_with_what_the_rival_left() -> None:
    slot, store, gate, stuck = ExecutorSlot(), MemoryStore(), Gate(), Gate()
    await store.open()
    ours, theirs = MemoryLock(slot), MemoryLock(slot)
    async with bench(store=store, lock=ours, limits=FAST, script=gate.answer) as engine:
        kept = await engine.submit(ONE)
        await engine.chat.started.wait()
        slot.holder = theirs
        async with bench(store=store, lock=theirs, limits=FAST, script=stuck.answer) as rival:
            taken = await rival.submit(ONE)
            await rival.chat.started.wait()
            await stands_by(engine)
        slot.holder = None
        gate.open.set()
        for run_id in (kept, taken):
            assert (await engine.finish(run_id)).status == "completed"
        assert engine.engine.stats().role == "executor"


async def test_a_run_that_the_loser_stores_as_begun_after_the_rival_has_recovered_is_gone_on_with() -> None:
    store, stuck = MemoryStore(), Gate()
    await store.open()
    # The loser was not told yet, so each believes to have the lock.
    async with (
        bench(store=store, limits=SLOW, script=stuck.answer) as loser,
        bench(store=store, limits=FAST) as winner,
    ):
        await winner.run(ONE)
        run_id = await loser.submit(ONE)
        await loser.chat.started.wait()
        await loser.engine.drain(0.0)
        assert (await winner.finish(run_id)).status == "completed"
        assert winner.chat.calls == {"say": 2}


async def test_runs_that_somebody_has_in_hand_are_left_to_them() -> None:
    gate = Gate()
    async with bench(limits=FAST, script=gate.answer) as engine:
        run_id = await engine.submit(ONE)
        await engine.chat.started.wait()
        await asyncio.sleep(10 * FAST.poll_seconds)
        gate.open.set()
        await engine.finish(run_id)
        assert engine.chat.calls == {"say": 1}
        assert "AttemptLost" not in await engine.types(run_id)


async def test_a_lock_that_was_lost_for_a_moment_aborts_nothing() -> None:
    slot, gate = ExecutorSlot(), Gate()
    lock = MemoryLock(slot)
    async with bench(lock=lock, limits=FAST, script=gate.answer) as engine:
        run_id = await engine.submit(ONE)
        await engine.chat.started.wait()
        slot.holder = None
        async with asyncio.timeout(10):
            while not lock.held:  # noqa: ASYNC110  the port has no event for it
                await asyncio.sleep(0.01)
        gate.open.set()
        assert (await engine.finish(run_id)).status == "completed"
        assert engine.chat.calls["say"] == 1
