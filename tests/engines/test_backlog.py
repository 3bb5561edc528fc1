"""The bound on waiting runs: it holds for a burst, and forgets nobody's departure."""

from __future__ import annotations

import asyncio

import pytest

from app.engines.backlog import Backlog
from app.engines.embedded import EngineLimits
from app.engines.engine import Overloaded
from app.ports.models import CallContext, ChatRequest
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.harness import bench, llm, workflow

ONE = workflow(llm("a"))


async def test_a_burst_does_not_slip_past_the_bounds() -> None:
    gate = asyncio.Event()

    async def wait(request: ChatRequest, context: CallContext) -> str:
        await gate.wait()
        return "ok"

    limits = EngineLimits(max_active_runs=1, max_pending_runs=2, poll_seconds=0.02)
    async with bench(script=wait, limits=limits) as it:
        results = await asyncio.gather(*(it.submit(ONE) for _ in range(50)), return_exceptions=True)
        accepted = [result for result in results if isinstance(result, str)]
        assert len(accepted) == 3
        assert sum(isinstance(result, Overloaded) for result in results) == 47
        gate.set()
        for run_id in accepted:
            assert (await it.finish(run_id)).status == "completed"


async def test_no_queue_at_all_refuses_what_cannot_start_and_nothing_else() -> None:
    limits = EngineLimits(max_active_runs=1, max_pending_runs=0, poll_seconds=0.02)
    async with bench(limits=limits) as it:
        assert (await it.run(ONE)).status == "completed"


async def test_a_standby_learns_what_the_executor_took_from_the_queue() -> None:
    store, slot = MemoryStore(), ExecutorSlot()
    await store.open()
    limits = EngineLimits(max_active_runs=10, max_pending_runs=2, poll_seconds=0.01)
    async with (
        bench(store=store, lock=MemoryLock(slot), limits=limits),
        bench(store=store, lock=MemoryLock(slot), limits=limits) as standby,
    ):
        for _ in range(6):
            run_id = await standby.submit(ONE)
            assert (await standby.finish(run_id)).status == "completed"
            async with asyncio.timeout(5):
                while standby.engine.stats().queued:  # noqa: ASYNC110  nobody is told of a count
                    await asyncio.sleep(0.01)


async def test_what_is_stored_during_a_count_is_added_to_it() -> None:
    backlog = Backlog()
    asked, answer = asyncio.Event(), asyncio.Event()

    async def count() -> int:
        asked.set()
        await answer.wait()
        return 5

    counting = asyncio.create_task(backlog.recount(count))
    await asked.wait()
    backlog.admitted()
    backlog.stored()
    answer.set()
    await counting
    assert backlog.size == 6


@pytest.mark.parametrize("ended", ["stored", "refused"])
def test_an_admitted_run_counts_until_it_is_known_to_wait_or_not(ended: str) -> None:
    backlog = Backlog()
    backlog.admitted()
    assert backlog.size == 1
    getattr(backlog, ended)()
    assert backlog.size == (1 if ended == "stored" else 0)
    backlog.taken()
    assert backlog.size == 0
