"""Schedules as services need them stored: what a user set, and how far the firing has come.

Times are epoch seconds; fire times are whole ones. Every write of a schedule raises its `generation` by
one and is refused if somebody else wrote meanwhile, so that two processes never decide upon the same fire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from app.ports.runs import IdempotencyRecord

Overlap = Literal["skip", "queue", "cancel_previous"]
CatchUp = Literal["latest", "all", "none"]
FireOutcome = Literal["started", "skipped", "failed", "missed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSpec:
    """What is to be run and when; exactly one of `cron` and `interval_seconds` is set."""

    workflow: str
    version: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    timeout_seconds: float | None = None
    cron: str | None = None
    interval_seconds: int | None = None
    time_zone: str = "UTC"
    overlap: Overlap = "skip"
    catch_up: CatchUp = "latest"
    catch_up_seconds: int = 0
    start_at: float | None = None
    end_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """What became of a fire time, for good."""

    fire_at: float
    outcome: FireOutcome
    at: float
    """When that was decided."""
    run_id: str | None = None
    detail: str | None = None
    """Why there is no run."""
    manual: bool = False
    """Somebody asked for it; it is no time of the schedule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FireCounts:
    """How many fires ended how, since the schedule was made."""

    started: int = 0
    skipped: int = 0
    failed: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the firing has come."""

    next_fire_at: float | None = None
    """None while paused, and when there is none any more."""
    queue: tuple[float, ...] = ()
    """Fire times that were decided to be run and have no run yet, oldest first."""
    previous_run_id: str | None = None
    """The run of the last fire of the schedule itself: the one an overlap is with."""
    last_run_id: str | None = None
    """The last run, manual ones included."""
    fires: tuple[Fire, ...] = ()
    """The last few, newest first."""
    counts: FireCounts = field(default_factory=FireCounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRow:
    """A schedule; `name` is unique in its tenant."""

    id: str
    tenant: str
    name: str
    spec: ScheduleSpec
    paused: bool
    anchor: float
    """Intervals are counted from here."""
    revision: int
    """Counts the changes of what a user set, from 1."""
    generation: int
    """Counts every write, from 1."""
    created_at: float
    updated_at: float
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class FiringSchedule:
    """A schedule that something is to be done about, and what is stored of the run before."""

    schedule: ScheduleRow
    previous_active: bool
    """Whether the run named by `previous_run_id` has not ended."""


class ScheduleStore(Protocol):
    """Schedules by id, by name, and by when they are due."""

    async def create(self, schedule: ScheduleRow, idempotency: IdempotencyRecord | None = None) -> None:
        """Store a schedule and the answer given, both or none.

        Raises `AlreadyExists` when the name, the id or the idempotency key is taken.
        """
        ...

    async def get(self, tenant: str, schedule_id: str) -> ScheduleRow | None:
        """That schedule; another tenant's does not exist."""
        ...

    async def by_name(self, tenant: str, name: str) -> ScheduleRow | None:
        """The schedule of that name."""
        ...

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[ScheduleRow]:
        """By name; `after` is the last name of the page before."""
        ...

    async def update(self, schedule: ScheduleRow) -> bool:
        """Replace the row of the generation before; False where the stored one is not of that.

        Raises `AlreadyExists` when the new name is taken.
        """
        ...

    async def advance(self, schedules: Sequence[ScheduleRow]) -> Sequence[bool]:
        """Store the progress of many at once; for each, whether it was of the generation before."""
        ...

    async def delete(self, tenant: str, schedule_id: str, *, revision: int | None = None) -> bool:
        """Forget a schedule, if it still is of that revision; False where there is none such."""
        ...

    async def due(self, now: float, *, limit: int) -> Sequence[FiringSchedule]:
        """Schedules of every tenant whose next fire time has come, the longest due first."""
        ...

    async def startable(
        self, *, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[FiringSchedule]:
        """Schedules of every tenant with a queued fire that can be acted upon now, by (oldest fire, id).

        These are the ones not paused whose run before has ended, or is to be cancelled and is not yet.
        """
        ...

    async def next_fire_at(self) -> float | None:
        """The earliest next fire time of all."""
        ...
