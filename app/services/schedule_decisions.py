"""What a schedule does about a fire time that has come: pure functions from one stored state to the next.

A fire that is decided to be run goes to the queue of its schedule first, and that is stored before anything
is started. So a crash leaves either the fire time or its queue entry, and the run's id, which is made of
both, keeps the second attempt from starting it twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import takewhile
from typing import Final
from uuid import UUID

from app.ports.schedules import Fire, FireOutcome, FiringSchedule, Progress, ScheduleRow, ScheduleSpec
from app.services.run_labels import FIRE_TIME, OWN, SCHEDULE
from app.services.runs import RunRequest
from app.services.schedule_times import Timing
from app.services.timestamps import rfc3339

ON_TIME_SECONDS: Final = 10.0
"""A fire that comes no later than this is not missed, whatever the schedule says of catching up."""
MOST_QUEUED: Final = 100
MOST_AT_ONCE: Final = 100
"""Missed fires that are made up, or counted, in one decision."""
RECENT_FIRES: Final = 10

_PREVIOUS_RUNS: Final = "the run before has not ended"
_REPLACED: Final = "a later fire took its place"
_QUEUE_FULL: Final = f"{MOST_QUEUED} fires wait already"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueFires:
    """What has come since the last look."""

    chosen: tuple[float, ...]
    missed: tuple[float, ...]
    """At most `MOST_AT_ONCE` of those that are not made up, oldest first."""
    next_fire_at: float | None
    """May have come already: then there is more to decide."""


def run_id_of(schedule_id: str, fire_at: float) -> str:
    """The id of the run of a fire time: a UUIDv7 of that time whose random bits are a hash of both."""
    digest = int.from_bytes(sha256(f"{schedule_id}/{fire_at:.0f}".encode()).digest()[:10])
    value = (round(fire_at * 1000) & (1 << 48) - 1) << 80 | digest
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def due_fires(timing: Timing, spec: ScheduleSpec, first: float, now: float) -> DueFires:
    """What to do about the fire times from `first` (which has come) to `now`."""
    window = spec.catch_up_seconds if spec.catch_up != "none" else 0.0
    earliest = max(first, now - max(window, ON_TIME_SECONDS))
    if spec.catch_up == "all" or first >= now - ON_TIME_SECONDS:
        chosen = _until(timing, earliest, now)
    else:
        latest = timing.last_until(earliest, now)
        chosen = () if latest is None else (latest,)
    return DueFires(
        chosen=chosen,
        missed=() if chosen[:1] == (first,) else _until(timing, first, chosen[0] - 1 if chosen else now),
        next_fire_at=timing.next_after(chosen[-1] if chosen else now),
    )


def _until(timing: Timing, first: float, last: float) -> tuple[float, ...]:
    """The first fire times from one time to another, both included."""
    return tuple(takewhile(lambda at: at <= last, timing.following(math.ceil(first) - 1, MOST_AT_ONCE)))


def decide(firing: FiringSchedule, timing: Timing, now: float) -> ScheduleRow:
    """The schedule after its due fire times were taken: queued, skipped or missed, and the next one set."""
    schedule = firing.schedule
    progress = schedule.progress
    if progress.next_fire_at is None:
        return schedule
    due = due_fires(timing, schedule.spec, progress.next_fire_at, now)
    progress = replace(progress, next_fire_at=due.next_fire_at)
    if due.missed:
        progress = _with_missed(progress, due.missed, now)
    for fire_at in due.chosen:
        progress = _take(schedule.spec, progress, fire_at, now, busy=firing.previous_active)
    return _stored(schedule, progress)


def _with_missed(progress: Progress, missed: tuple[float, ...], now: float) -> Progress:
    detail = f"{len(missed)} fires came while the service did not look"
    if len(missed) == 1:
        detail = "it came while the service did not look"
    elif len(missed) == MOST_AT_ONCE:
        detail = "at least " + detail
    fire = Fire(fire_at=missed[-1], outcome="missed", at=now, detail=detail)
    return _recorded(progress, fire, times=len(missed))


def _take(spec: ScheduleSpec, progress: Progress, fire_at: float, now: float, *, busy: bool) -> Progress:
    def skip(progress: Progress, skipped: float, why: str) -> Progress:
        return _recorded(progress, Fire(fire_at=skipped, outcome="skipped", at=now, detail=why))

    queue = progress.queue
    if spec.overlap == "skip" and (busy or queue):
        return skip(progress, fire_at, _PREVIOUS_RUNS)
    if spec.overlap == "cancel_previous":
        for waiting in queue[1:]:
            progress = skip(progress, waiting, _REPLACED)
        queue = queue[:1]  # a crash may have left a run of it: whoever starts runs looks
    if len(queue) >= MOST_QUEUED:
        return skip(progress, fire_at, _QUEUE_FULL)
    return replace(progress, queue=(*queue, fire_at))


# --- outcomes -----------------------------------------------------------------------------------------


def started(schedule: ScheduleRow, run_id: str, now: float) -> ScheduleRow:
    """The schedule after the oldest queued fire became a run."""
    fire = Fire(fire_at=schedule.progress.queue[0], outcome="started", at=now, run_id=run_id)
    progress = replace(schedule.progress, queue=schedule.progress.queue[1:], previous_run_id=run_id)
    return _stored(schedule, _recorded(progress, fire))


def failed(schedule: ScheduleRow, detail: str, now: float) -> ScheduleRow:
    """The schedule after the oldest queued fire could not become a run."""
    fire = Fire(fire_at=schedule.progress.queue[0], outcome="failed", at=now, detail=detail)
    progress = replace(schedule.progress, queue=schedule.progress.queue[1:])
    return _stored(schedule, _recorded(progress, fire))


def replaced(schedule: ScheduleRow, now: float) -> ScheduleRow:
    """The schedule after the oldest queued fire gave way to the one behind it."""
    fire = Fire(fire_at=schedule.progress.queue[0], outcome="skipped", at=now, detail=_REPLACED)
    progress = replace(schedule.progress, queue=schedule.progress.queue[1:])
    return _stored(schedule, _recorded(progress, fire))


def halted(schedule: ScheduleRow, detail: str, now: float) -> ScheduleRow:
    """The schedule after its next fire could not be worked out: it fires no more until it is changed."""
    progress = schedule.progress
    fire = Fire(fire_at=progress.next_fire_at or now, outcome="failed", at=now, detail=detail)
    return _stored(schedule, _recorded(replace(progress, next_fire_at=None), fire))


def triggered(schedule: ScheduleRow, run_id: str, now: float) -> ScheduleRow:
    """The schedule after somebody started a run of it; no overlap is with that run."""
    fire = Fire(fire_at=now, outcome="started", at=now, run_id=run_id, manual=True)
    return _stored(schedule, _recorded(schedule.progress, fire))


def _recorded(progress: Progress, fire: Fire, *, times: int = 1) -> Progress:
    counts = progress.counts
    return replace(
        progress,
        fires=(fire, *progress.fires)[:RECENT_FIRES],
        counts=replace(counts, **{fire.outcome: _count(progress, fire.outcome) + times}),
        last_run_id=fire.run_id or progress.last_run_id,
    )


def _count(progress: Progress, outcome: FireOutcome) -> int:
    value: int = getattr(progress.counts, outcome)
    return value


def _stored(schedule: ScheduleRow, progress: Progress) -> ScheduleRow:
    return replace(schedule, progress=progress, generation=schedule.generation + 1)


def request_of(schedule: ScheduleRow, fire_at: float) -> RunRequest:
    """The run of a fire time. Beside the schedule's own labels it bears its name and that time."""
    spec = schedule.spec
    return RunRequest(
        workflow=spec.workflow,
        version=spec.version,
        inputs=spec.inputs,
        labels={name: value for name, value in spec.labels.items() if name not in OWN},
        own_labels={SCHEDULE: schedule.name, FIRE_TIME: rfc3339(fire_at)},
        priority=spec.priority,
        timeout_seconds=spec.timeout_seconds,
    )
