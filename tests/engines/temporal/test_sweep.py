"""What the process that leads offers to Temporal, and how often."""

from __future__ import annotations

import math

from app.dsl.catalog import Catalog
from app.dsl.compiled import ConcurrencyRule
from app.engines.recovery import RunLoader
from app.engines.temporal.outbox import Outbox
from app.engines.temporal.queues import TaskQueues
from app.engines.temporal.sweep import AGAIN_SECONDS, SETTLE_SECONDS, UNTOLD_SECONDS, Sweep
from app.engines.uptake import Displace
from app.ports.runs import RunRow, StatusChange
from app.steps.registry import STEP_KINDS
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.harness import SetClock, bench
from tests.engines.temporal.test_outbox import Cluster
from tests.engines.test_concurrency import limited
from tests.stores.samples import DEFINITION, a_run, events

HOUR = 3600


class Caller:
    """A run that called another one, which has ended, and waits for something else."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._seq = 1

    async def calls(self, ended_at: float) -> None:
        await self._store.runs.create(a_run("caller", status="running"), events(1, 1, "caller"), DEFINITION)
        child = a_run("child", status="completed", parent_run_id="caller", finished_at=ended_at)
        await self._store.runs.create(child, events(1, 1, "child"), DEFINITION)
        await self.rests()

    async def rests(self) -> None:
        """As after every time that it was woken."""
        self._seq += 1
        change = StatusChange(status="waiting", wake_at=math.inf)
        await self._store.journal.append(events(self._seq, self._seq, "caller"), change)


def swept(store: MemoryStore, cluster: Cluster, clock: SetClock, displace: Displace) -> tuple[Sweep, Outbox]:
    outbox = Outbox(cluster)
    outbox.start()
    sweep = Sweep(
        store=store,
        loader=RunLoader(store, Catalog(STEP_KINDS)),
        outbox=outbox,
        queues=TaskQueues(common="runs"),
        clock=clock,
        displace=displace,
    )
    sweep.begin_anew()
    return sweep, outbox


def nobody_is_displaced(run: RunRow, rule: ConcurrencyRule) -> None:
    raise AssertionError(run.id)


async def test_a_caller_is_not_woken_for_ever_by_the_end_of_a_run_that_it_called() -> None:
    store, clock, cluster = MemoryStore(), SetClock(), Cluster()
    await store.open()
    sweep, outbox = swept(store, cluster, clock, nobody_is_displaced)
    caller = Caller(store)
    await caller.calls(clock.now())
    for _ in range(HOUR // 10):
        await sweep.pass_over()
        if len(outbox):
            await outbox.stop(seconds=1)
            outbox.start()
            await caller.rests()
        clock.by += 10
    await outbox.stop()
    woken = sum(wake for _, _, wake in cluster.calls)
    assert 1 <= woken <= 2 + UNTOLD_SECONDS / AGAIN_SECONDS


async def test_the_oldest_run_makes_room_for_one_whose_process_died_before_it_saw_to_that() -> None:
    store, clock, displaced = MemoryStore(), SetClock(), list[str]()
    await store.open()

    def displace(run: RunRow, _rule: ConcurrencyRule) -> None:
        displaced.append(run.id)

    # Nobody executes: what is accepted stays in the queue.
    async with bench(store=store, lock=MemoryLock(ExecutorSlot(holder=MemoryLock()))) as it:
        await it.submit(limited("cancel_oldest"), {"customer": "a"})
        newest = await it.submit(limited("cancel_oldest"), {"customer": "a"})
        sweep, outbox = swept(store, Cluster(), clock, displace)
        await sweep.pass_over()
        assert displaced == []
        clock.by += SETTLE_SECONDS
        for _ in range(3):
            await sweep.pass_over()
        await outbox.stop()
    assert displaced == [newest]
