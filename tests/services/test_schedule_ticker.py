"""Fires happen once, whatever comes between; what cannot start now starts later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from app.engines.embedded import EngineLimits
from app.ports.errors import StoreUnavailable
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import RunFilter, RunRow, WorkflowRow
from app.ports.schedules import FireCounts, FiringSchedule, ScheduleRow
from app.services.runs import RunService
from app.services.schedule_decisions import run_id_of
from app.services.schedule_ticker import BATCH, ScheduleTicker
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.api.harness import services_of
from tests.engines.harness import Bench, Script, answer_at_once, bench, llm, workflow
from tests.stores.samples import NOON
from tests.stores.schedule_samples import a_schedule

INPUTS = {"type": "object", "properties": {"n": {"type": "integer"}, "m": {"type": "integer"}}}


@dataclass
class ManualClock:
    """Stands where it is put."""

    time: float = NOON
    machine: str = "test"

    def now(self) -> float:
        return self.time

    def uptime(self) -> float:
        return self.time


@dataclass
class Gate:
    """A model that answers when it is told to."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        await self.opened.wait()
        return "done"


@dataclass
class Fixture:
    """A ticker over an engine, with time in hand."""

    bench: Bench
    ticker: ScheduleTicker
    clock: ManualClock

    async def at(self, time: float) -> None:
        """One pass at that time."""
        self.clock.time = time
        await self.ticker.fire()

    async def add(self, schedule_id: str = "s1", **changes: Any) -> ScheduleRow:
        row = a_schedule(schedule_id, workflow="test", **changes)
        await self.bench.store.schedules.create(row)
        return row

    async def row(self, schedule_id: str = "s1") -> ScheduleRow:
        row = await self.bench.store.schedules.get("t1", schedule_id)
        assert row is not None
        return row

    async def counts(self, schedule_id: str = "s1") -> FireCounts:
        return (await self.row(schedule_id)).progress.counts

    async def runs(self, **filter: Any) -> Sequence[RunRow]:
        """Oldest first."""
        found = await self.bench.store.runs.list("t1", RunFilter(**filter), limit=100_000)
        return sorted(found, key=lambda run: run.labels["scheduled_for"])

    async def fired(self) -> None:
        """Until the ticker's own task has made a run."""
        async with asyncio.timeout(10):
            while not await self.runs():  # noqa: ASYNC110  the store tells nobody
                await asyncio.sleep(0.001)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Pass after pass, until something holds."""
        async with asyncio.timeout(10):
            while not await holds():
                await self.ticker.fire()
                await asyncio.sleep(0)


async def register(bench: Bench, **more: Any) -> None:
    """The workflow that all these schedules run."""
    compiled = bench.catalog.compile(workflow(llm("a"), inputs=INPUTS, **more))
    row = WorkflowRow(
        tenant="t1",
        name=compiled.name,
        version=compiled.version,
        revision=1,
        definition_hash=compiled.definition.hash,
        description=None,
    )
    await bench.store.workflows.register(row, compiled.definition)


def ticker_of(bench: Bench, clock: ManualClock, **options: Any) -> ScheduleTicker:
    return ScheduleTicker(
        store=bench.store,
        runs=services_of(bench).runs,
        engine=bench.engine,
        clock=clock,
        **options,
    )


@pytest.fixture
async def started(request: pytest.FixtureRequest) -> AsyncIterator[Fixture]:
    script: Script = getattr(request, "param", answer_at_once)
    async with bench(script=script) as engine:
        await register(engine)
        clock = ManualClock()
        yield Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)


# --- what cannot be run -------------------------------------------------------------------------------


async def test_a_fire_whose_workflow_is_gone_fails_with_the_reason_and_the_schedule_goes_on(
    started: Fixture,
) -> None:
    await started.add()
    await started.bench.store.workflows.delete("t1", "test")
    await started.at(NOON + 60)
    row = await started.row()
    assert row.progress.fires[0].outcome == "failed"
    assert "workflow 'test'" in (row.progress.fires[0].detail or "")
    assert row.progress.next_fire_at == NOON + 120
    assert await started.runs() == []


async def test_a_fire_whose_inputs_fit_no_more_fails_with_every_reason(started: Fixture) -> None:
    await started.add(inputs={"n": "x", "m": "y"})
    await started.at(NOON + 60)
    fire = (await started.row()).progress.fires[0]
    assert (fire.outcome, fire.run_id) == ("failed", None)
    assert fire.detail is not None
    assert "/n: " in fire.detail
    assert "/m: " in fire.detail


async def test_a_zone_that_is_known_no_more_stops_that_schedule_alone(started: Fixture) -> None:
    await started.add("s1", interval_seconds=None, cron="0 9 * * *", time_zone="Mars/Olympus")
    await started.add("s2")
    await started.at(NOON + 60)
    row = await started.row("s1")
    assert row.progress.next_fire_at is None
    assert row.progress.fires[0].detail == "there is no time zone 'Mars/Olympus'"
    assert (await started.counts("s2")).started == 1


# --- once ---------------------------------------------------------------------------------------------


async def test_nothing_fires_before_its_time(started: Fixture) -> None:
    await started.add()
    await started.at(NOON + 59.9)
    assert await started.runs() == []


async def test_each_fire_time_is_one_run_with_its_own_id(started: Fixture) -> None:
    await started.add(name="n", inputs={"n": 1}, labels={"team": "x"}, priority=7)
    for minute in (1, 1, 2, 2):
        await started.at(NOON + 60 * minute)
        for run in await started.runs():
            await started.bench.finish(run.id)
    runs = await started.runs(labels={"schedule": "n", "team": "x"})
    assert [run.id for run in runs] == [run_id_of("s1", NOON + 60), run_id_of("s1", NOON + 120)]
    assert {run.priority for run in runs} == {7}
    assert await started.counts() == FireCounts(started=2)


async def test_a_clock_that_jumps_back_fires_nothing_again(started: Fixture) -> None:
    await started.add(overlap="queue")
    await started.at(NOON + 180)
    before = len(await started.runs())
    for time in (NOON, NOON + 60, NOON + 120, NOON + 179):
        await started.at(time)
    assert len(await started.runs()) == before


class DyingStore(MemoryStore):
    """Takes no progress any more after so many times: the process died there."""

    def __init__(self, survives: int) -> None:
        super().__init__()
        self.left = survives
        advance = self.schedules.advance

        async def mortal(schedules: Sequence[ScheduleRow]) -> Sequence[bool]:
            self.left -= 1
            if self.left < 0:
                raise StoreUnavailable("dead")
            return await advance(schedules)

        self.schedules.advance = mortal  # type: ignore[method-assign]  # a store that breaks


@pytest.mark.parametrize("survives", [0, 1, 2, 3])
@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_previous"])
async def test_a_crash_anywhere_loses_no_fire_and_repeats_none(survives: int, overlap: str) -> None:
    store = DyingStore(survives)
    await store.open()
    clock = ManualClock()
    async with bench(store=store) as engine:
        await register(engine)
        first = Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)
        await first.add(overlap=overlap, catch_up="all", catch_up_seconds=3600)
        for minute in (1, 2):
            try:
                await first.at(NOON + 60 * minute)
            except StoreUnavailable:
                break
            for run in await first.runs():
                await engine.finish(run.id)
    store.left = 1000
    async with bench(store=store) as engine:
        second = Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)
        clock.time = NOON + 121

        async def settled() -> bool:
            return (await second.counts()).started + (await second.counts()).skipped == 2

        await second.until(settled)
        runs = await second.runs()
        counts = await second.counts()
        assert len(runs) == counts.started
        assert len({run.id for run in runs}) == len(runs)
        if survives > 0 or overlap == "queue":
            assert [run.id for run in runs] == [run_id_of("s1", NOON + 60), run_id_of("s1", NOON + 120)]


async def test_two_tickers_on_one_store_fire_once(started: Fixture) -> None:
    other = ticker_of(started.bench, started.clock)
    for number in range(50):
        await started.add(f"s{number}")
    started.clock.time = NOON + 60
    await asyncio.gather(started.ticker.fire(), other.fire())
    await asyncio.gather(started.ticker.fire(), other.fire())
    assert len(await started.runs()) == 50
    assert [(await started.counts(f"s{number}")).started for number in range(50)] == [1] * 50


# --- overlaps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("started", [Gate()], indirect=True)
async def test_a_fire_is_skipped_while_the_run_before_is_active(started: Fixture) -> None:
    await started.add(overlap="skip")
    await started.at(NOON + 60)
    await started.at(NOON + 120)
    assert await started.counts() == FireCounts(started=1, skipped=1)
    assert (await started.row()).progress.fires[0].detail == "the run before has not ended"
    assert len(await started.runs()) == 1


async def test_queued_fires_start_one_after_another() -> None:
    gate = Gate()
    async with bench(script=gate) as engine:
        await register(engine)
        clock = ManualClock()
        started = Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)
        await started.add(overlap="queue")
        for minute in (1, 2, 3):
            await started.at(NOON + 60 * minute)
        assert len(await started.runs()) == 1
        assert (await started.row()).progress.queue == (NOON + 120, NOON + 180)
        gate.opened.set()

        async def all_started() -> bool:
            return (await started.counts()).started == 3

        await started.until(all_started)
        runs = await started.runs()
        assert [run.id for run in runs] == [run_id_of("s1", NOON + 60 * minute) for minute in (1, 2, 3)]
        for run in runs:
            await engine.finish(run.id)
        rows = [await engine.store.runs.get("t1", run.id) for run in runs]
        for before, after in pairwise(rows):
            assert before is not None
            assert after is not None
            assert before.finished_at is not None
            assert before.finished_at <= after.created_at + 1e-6


@pytest.mark.parametrize("started", [Gate()], indirect=True)
async def test_the_run_before_is_cancelled_and_then_the_next_one_starts(started: Fixture) -> None:
    await started.add(overlap="cancel_previous")
    await started.at(NOON + 60)
    (first,) = await started.runs()
    await started.at(NOON + 120)
    assert (await started.bench.finish(first.id)).cancel_reason == "schedule 'name of s1' fires again"

    async def both_started() -> bool:
        return (await started.counts()).started == 2

    await started.until(both_started)
    statuses = [run.status for run in await started.runs()]
    assert statuses == ["cancelled", "running"]


# --- no room ------------------------------------------------------------------------------------------


async def test_a_service_without_room_delays_a_fire_and_does_not_lose_it() -> None:
    gate = Gate()
    limits = EngineLimits(max_active_runs=1, max_pending_runs=1, poll_seconds=0.02)
    async with bench(script=gate, limits=limits) as engine:
        await register(engine)
        clock = ManualClock()
        started = Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)
        for number in range(5):
            await started.add(f"s{number}")
        await started.at(NOON + 60)
        assert len(await started.runs()) == 2
        gate.opened.set()
        for run in await started.runs():
            await engine.finish(run.id)

        async def all_started() -> bool:
            started.ticker = ticker_of(engine, clock)  # it remembers for a second that there was no room
            counts = [(await started.counts(f"s{number}")).started for number in range(5)]
            return counts == [1] * 5

        await started.until(all_started)
        assert len(await started.runs()) == 5


async def test_while_there_is_no_room_nothing_is_asked_for() -> None:
    limits = EngineLimits(max_active_runs=1, max_pending_runs=0, poll_seconds=0.02)
    async with bench(script=Gate(), limits=limits) as engine:
        await register(engine)
        clock = ManualClock()
        started = Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)
        await started.add("s1")
        await started.add("s2")
        await started.at(NOON + 60)
        queued = [row.progress.queue for row in (await started.row("s1"), await started.row("s2"))]
        assert sorted(queued) == [(), (NOON + 60,)]
        await started.at(NOON + 61)
        assert len(await started.runs()) == 1


# --- the task -----------------------------------------------------------------------------------------


async def test_a_standby_fires_nothing_until_it_executes() -> None:
    slot = ExecutorSlot()
    executor = MemoryLock(slot)
    await executor.acquire()
    async with bench(lock=MemoryLock(slot)) as engine:
        await register(engine)
        clock = ManualClock(NOON + 60)
        started = Fixture(bench=engine, ticker=ticker_of(engine, clock, poll_seconds=0.005), clock=clock)
        row = await started.add()
        started.ticker.start()
        await asyncio.sleep(0.05)  # that nothing happens has no event
        assert await started.row() == row
        await executor.release()
        await started.fired()
        await started.ticker.stop()


async def test_the_task_fires_when_the_time_comes_and_when_it_is_woken(started: Fixture) -> None:
    ticker = ticker_of(started.bench, started.clock, poll_seconds=60.0)
    ticker.start()
    try:
        await started.add()
        started.clock.time = NOON + 60
        ticker.wake()
        await started.fired()
    finally:
        await ticker.stop()
        await ticker.stop()


class BrokenOnce(MemoryStore):
    """Fails the first question."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        due = self.schedules.due
        errors = [error]

        async def broken(now: float, *, limit: int) -> Sequence[FiringSchedule]:
            if errors:
                raise errors.pop()
            return await due(now, limit=limit)

        self.schedules.due = broken  # type: ignore[method-assign]  # a store that breaks


@pytest.mark.parametrize("error", [StoreUnavailable("full"), RuntimeError("a defect")])
async def test_the_task_outlives_what_goes_wrong_in_a_pass(error: Exception) -> None:
    store = BrokenOnce(error)
    await store.open()
    async with bench(store=store) as engine:
        await register(engine)
        clock = ManualClock()
        started = Fixture(bench=engine, ticker=ticker_of(engine, clock, poll_seconds=0.01), clock=clock)
        await started.add()
        clock.time = NOON + 60
        started.ticker.start()
        await started.fired()
        await started.ticker.stop()


async def test_the_limit_of_one_workflow_delays_no_other_schedule() -> None:
    async with bench(script=Gate()) as engine:
        limit = {"key": "{{ inputs.n }}", "limit": 1, "on_limit": "reject"}
        await register(engine, concurrency=limit)
        clock = ManualClock()
        started = Fixture(bench=engine, ticker=ticker_of(engine, clock), clock=clock)
        for name, number in (("a", 1), ("b", 1), ("c", 2)):
            await started.add(name, inputs={"n": number})
        await started.at(NOON + 60)
        counts = [(await started.counts(name)).started for name in "abc"]
        assert counts[2] == 1
        assert sum(counts[:2]) == 1
        queued = [len((await started.row(name)).progress.queue) for name in "ab"]
        assert sum(queued) == 1


# --- many ---------------------------------------------------------------------------------------------


async def test_very_many_at_once_leave_the_loop_free(
    started: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 5 * BATCH
    for number in range(count):
        await started.add(f"s{number}", interval_seconds=None, cron="* * * * *", time_zone="Europe/Berlin")
    started.clock.time = NOON + 60
    # Work in a turn of the loop is counted, not timed: how long it takes is the machine's affair.
    at_once, most, ended = 0, 0, asyncio.Event()
    submit = RunService.submit

    async def counted(self: RunService, *args: Any, **options: Any) -> Any:
        nonlocal at_once
        at_once += 1
        return await submit(self, *args, **options)

    monkeypatch.setattr(RunService, "submit", counted)

    async def watch() -> None:
        nonlocal at_once, most
        while not ended.is_set():
            await asyncio.sleep(0)
            most, at_once = max(most, at_once), 0

    watching = asyncio.create_task(watch())
    await started.ticker.fire()
    ended.set()
    await watching
    assert len(await started.runs()) == count
    assert 0 < most <= BATCH
