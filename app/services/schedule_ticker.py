"""Fires schedules: one task for all of them, in the process that executes runs.

A pass has two halves, and each is the same after a crash. Every schedule whose time has come is decided
upon: the fire goes to the queue of its schedule, or is skipped, and the next fire time is set; that is
stored for many at once. And every queued fire that nothing stands in the way of becomes a run, under an
id that is made of the schedule and the fire time: a run that exists already was started before the crash.

A service without room for more runs delays what is queued and loses nothing of it. What does not belong
here: when a schedule fires and what an overlap means (`schedule_decisions`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

import structlog

from app.engines.engine import Engine, LimitReached, RunEnded
from app.ports.clock import Clock
from app.ports.errors import AlreadyExists, OrchestratorError, StoreError
from app.ports.runs import RunRow, Store
from app.ports.schedules import FiringSchedule, ScheduleRow
from app.ports.turns import computed
from app.services.errors import ServiceError, translate
from app.services.idempotency import Answer
from app.services.principal import Principal
from app.services.runs import RunService
from app.services.schedule_decisions import (
    decide,
    failed,
    halted,
    replaced,
    request_of,
    run_id_of,
    started,
)
from app.services.schedule_times import TimingInvalid, timing_of

BATCH: Final = 100
"""Schedules that are read, decided upon and stored together; some ten milliseconds of work."""
POLL_SECONDS: Final = 1.0
"""How often to look for what other processes changed, for ended runs, and at the clock."""

MOST_PROBLEMS: Final = 5
MOST_CHARACTERS: Final = 1000
"""Of a reason that is kept with a fire."""
INTERNAL: Final = "an internal error; see the log"

log = structlog.get_logger(__name__)


class ScheduleTicker:
    """Owns its task. `start` it after the engine, `stop` it before the engine drains."""

    def __init__(
        self,
        *,
        store: Store,
        runs: RunService,
        engine: Engine,
        clock: Clock,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
        self._runs = runs
        self._engine = engine
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._wake = asyncio.Event()
        self._not_before = 0.0
        """The loop's time from which the service may have room for runs again."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to fire."""
        self._task = asyncio.create_task(self._tick(), name="schedule-ticker")

    def wake(self) -> None:
        """A schedule changed: look now."""
        self._wake.set()

    async def stop(self) -> None:
        """End the task; what it was about is done by the next one. Harmless when done already."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            self._wake.clear()
            seconds = self._poll_seconds
            try:
                if self._engine.stats().role == "executor":
                    await self.fire()
                    seconds = await self._seconds_to_next()
            except StoreError:
                log.warning("schedules.store_unavailable", exc_info=True)
            except Exception:
                # Whatever it is, the next pass may succeed, and without passes nothing fires.
                log.exception("schedules.pass_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    async def _seconds_to_next(self) -> float:
        """Until the next fire time, but never longer than the poll; wall clocks may jump."""
        next_fire_at = await self._store.schedules.next_fire_at()
        if next_fire_at is None:
            return self._poll_seconds
        return min(self._poll_seconds, max(0.0, next_fire_at - self._clock.now()))

    async def fire(self) -> None:
        """One pass over everything that is due or queued. Raises `StoreError` where it got stuck."""
        # What a crash left queued may be a run already: that comes out before others overlap with it.
        await self._start_queued()
        while len(due := await self._store.schedules.due(self._clock.now(), limit=BATCH)) > 0:
            await self._keep([await self._decided(firing) for firing in due])
        await self._start_queued()

    async def _start_queued(self) -> None:
        while await self._sweep():
            pass

    async def _sweep(self) -> bool:
        """Act upon every queued fire that can be acted upon; whether more may have become startable."""
        after: tuple[float, str] | None = None
        more = False
        while self._has_room():
            startable = await self._store.schedules.startable(limit=BATCH, after=after)
            if not startable:
                return more
            last = startable[-1].schedule
            after = (last.progress.queue[0], last.id)
            acted = await asyncio.gather(*(self._act(firing) for firing in startable))
            settled = [schedule for schedule in acted if schedule is not None]
            await self._keep(settled)
            more = more or any(schedule.progress.queue for schedule in settled)
        return False

    async def _decided(self, firing: FiringSchedule) -> ScheduleRow:
        now = self._clock.now()
        schedule = firing.schedule
        try:
            timing = await computed(timing_of, schedule.spec, anchor=schedule.anchor)
            return decide(firing, timing, self._clock.now())
        except TimingInvalid as error:
            log.warning("schedule.halted", schedule_id=schedule.id, reason=str(error))
            return halted(schedule, str(error), now)
        except Exception:
            # One that cannot be decided upon must not keep all others from being fired.
            log.exception("schedule.halted", schedule_id=schedule.id)
            return halted(schedule, INTERNAL, now)

    async def _keep(self, schedules: Sequence[ScheduleRow]) -> None:
        stored = await self._store.schedules.advance(schedules)
        for schedule, done in zip(schedules, stored, strict=True):
            if not done:
                # Somebody changed it meanwhile. It is read again, and a run that exists is found again.
                log.info("schedule.changed_meanwhile", schedule_id=schedule.id)

    def _has_room(self) -> bool:
        return asyncio.get_running_loop().time() >= self._not_before

    async def _act(self, firing: FiringSchedule) -> ScheduleRow | None:
        """Start the oldest queued fire, or end what it waits for; None if it stays queued."""
        schedule = firing.schedule
        try:
            if schedule.spec.overlap == "cancel_previous" and len(schedule.progress.queue) > 1:
                return await self._give_way(schedule)
            if firing.previous_active:
                await self._cancel_previous(schedule)
                return None
            return await self._start(schedule)
        except OrchestratorError as error:
            return self._refused(schedule, error)
        except Exception:
            # A defect that met one fire would meet it again for ever: it is told, and the fire is over.
            log.exception("schedule.fire_crashed", schedule_id=schedule.id)
            return failed(schedule, INTERNAL, self._clock.now())

    async def _start(self, schedule: ScheduleRow) -> ScheduleRow:
        fire_at = schedule.progress.queue[0]
        run_id = run_id_of(schedule.id, fire_at)
        principal = Principal(
            tenant=schedule.tenant, subject=f"schedule:{schedule.name}", roles=frozenset({"executor"})
        )
        with contextlib.suppress(AlreadyExists):
            await self._runs.submit(principal, request_of(schedule, fire_at), _no_answer, run_id=run_id)
        now = self._clock.now()
        log.info("schedule.fired", schedule_id=schedule.id, run_id=run_id, seconds_late=now - fire_at)
        return started(schedule, run_id, now)

    async def _give_way(self, schedule: ScheduleRow) -> ScheduleRow:
        """Drop the oldest queued fire for a later one, unless a crash left a run of it."""
        run_id = run_id_of(schedule.id, schedule.progress.queue[0])
        if await self._store.runs.get(schedule.tenant, run_id) is not None:
            return started(schedule, run_id, self._clock.now())
        return replaced(schedule, self._clock.now())

    async def _cancel_previous(self, schedule: ScheduleRow) -> None:
        with contextlib.suppress(RunEnded):
            await self._engine.cancel(
                schedule.progress.previous_run_id or "", reason=f"schedule {schedule.name!r} fires again"
            )

    def _refused(self, schedule: ScheduleRow, error: OrchestratorError) -> ScheduleRow | None:
        refusal = translate(error)
        if refusal is None:
            log.error("schedule.fire_crashed", schedule_id=schedule.id, exc_info=error)
            return failed(schedule, INTERNAL, self._clock.now())
        if _is_temporary(refusal):
            log.info("schedule.delayed", schedule_id=schedule.id, reason=str(refusal))
            if not isinstance(error, LimitReached):  # the limit of one workflow says nothing of the others
                self._not_before = asyncio.get_running_loop().time() + (refusal.retry_after or 1)
            return None
        log.warning("schedule.fire_failed", schedule_id=schedule.id, reason=str(refusal))
        return failed(schedule, _told(refusal), self._clock.now())


def _is_temporary(refusal: ServiceError) -> bool:
    return refusal.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


def _told(refusal: ServiceError) -> str:
    """The refusal on one line, with what is wrong and where."""
    problems = [f"{problem.pointer}: {problem.detail}" for problem in refusal.problems[:MOST_PROBLEMS]]
    return "; ".join([str(refusal), *problems] if len(problems) > 1 else [str(refusal)])[:MOST_CHARACTERS]


def _no_answer(run: RunRow) -> Answer:
    """Nobody waits for one."""
    return Answer(status_code=HTTPStatus.ACCEPTED, body=b"")
