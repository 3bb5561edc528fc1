"""What a user's wish makes of a schedule: pure functions from one stored state to the next.

A change of the times begins anew now; every other change leaves the next fire time where it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import uuid_utils

from app.ports.problems import Problem
from app.ports.schedules import Progress, ScheduleRow, ScheduleSpec
from app.services.errors import ScheduleRejected
from app.services.schedule_times import Timing, TimingInvalid, timing_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRequest:
    """What a user sets. `paused` None: as it is, which is not for a new schedule."""

    name: str
    spec: ScheduleSpec
    paused: bool | None = None


def new_schedule(tenant: str, request: ScheduleRequest, now: float) -> ScheduleRow:
    """Raises `ScheduleRejected` where it would never fire."""
    anchor = _anchor(request.spec, now)
    first = _first_fire(request.spec, anchor, now)
    paused = bool(request.paused)
    return ScheduleRow(
        id=str(uuid_utils.uuid7()),
        tenant=tenant,
        name=request.name,
        spec=request.spec,
        paused=paused,
        anchor=anchor,
        revision=1,
        generation=1,
        created_at=now,
        updated_at=now,
        progress=Progress(next_fire_at=None if paused else first),
    )


def replaced(row: ScheduleRow, request: ScheduleRequest, now: float) -> ScheduleRow:
    """Raises `ScheduleRejected` where it would never fire."""
    paused = row.paused if request.paused is None else request.paused
    anchor, next_fire_at = row.anchor, row.progress.next_fire_at
    if _times(row.spec) != _times(request.spec):
        anchor = _anchor(request.spec, now)
        next_fire_at = _first_fire(request.spec, anchor, now)
    elif row.paused and not paused:
        next_fire_at = _timing(request.spec, anchor).next_after(now)
    progress = replace(row.progress, next_fire_at=None if paused else next_fire_at)
    return replace(row, name=request.name, spec=request.spec, paused=paused, anchor=anchor, progress=progress)


def paused(row: ScheduleRow, now: float) -> ScheduleRow:
    """It fires no more, and nothing that is queued starts."""
    return replace(row, paused=True, progress=replace(row.progress, next_fire_at=None))


def resumed(row: ScheduleRow, now: float) -> ScheduleRow:
    """It goes on with the first fire time from now."""
    if not row.paused:
        return row
    next_fire_at = _timing(row.spec, row.anchor).next_after(now)
    return replace(row, paused=False, progress=replace(row.progress, next_fire_at=next_fire_at))


def _times(spec: ScheduleSpec) -> tuple[object, ...]:
    return spec.cron, spec.interval_seconds, spec.time_zone, spec.start_at, spec.end_at


def _anchor(spec: ScheduleSpec, now: float) -> float:
    """Whole seconds, and not before the start."""
    return float(math.floor(now) if spec.start_at is None else math.ceil(spec.start_at))


def _first_fire(spec: ScheduleSpec, anchor: float, now: float) -> float:
    """Raises `ScheduleRejected` where there is none."""
    first = _timing(spec, anchor).next_after(now)
    if first is None:
        detail = "the schedule would never fire: no time of it comes before its end"
        raise rejected([Problem(pointer="/end_at", detail=detail, hint="let it end later, or not at all")])
    return first


def _timing(spec: ScheduleSpec, anchor: float) -> Timing:
    try:
        return timing_of(spec, anchor=anchor)
    except TimingInvalid as error:
        raise rejected(error.problems) from error


def rejected(problems: Sequence[Problem]) -> ScheduleRejected:
    """The refusal that lists them."""
    detail = f"the schedule cannot be kept for {len(problems)} reasons; each is listed under errors"
    if len(problems) == 1:
        detail = f"the schedule cannot be kept: {problems[0].detail}"
    return ScheduleRejected(detail, problems=problems)
