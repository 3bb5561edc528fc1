"""Schedules as readers see them, free of both wire format and storage. Times are epoch seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from app.ports.schedules import ScheduleRow
from app.services.schedule_times import TimingInvalid, timing_of

ScheduleState = Literal["active", "paused", "ended"]
NEXT_TIMES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleView:
    """A schedule. `ended`: it will not fire any more; `next_fire_times` is empty then, and while paused."""

    row: ScheduleRow
    state: ScheduleState
    next_fire_times: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulePage:
    """A page of schedules, by name. Of the next fire times only the first is at hand."""

    items: list[ScheduleView]
    next_cursor: str | None


def schedule_view(row: ScheduleRow, *, times: int = NEXT_TIMES) -> ScheduleView:
    """A stored schedule with that many of its next fire times, as far as there are as many."""
    first = row.progress.next_fire_at
    if first is None:
        return ScheduleView(row=row, state="paused" if row.paused else "ended", next_fire_times=())
    try:
        following = timing_of(row.spec, anchor=row.anchor).following(first, times - 1)
        return ScheduleView(row=row, state="active", next_fire_times=(first, *following))
    except TimingInvalid:
        # The time zone is known no more: the ticker will say so when the time has come.
        return ScheduleView(row=row, state="active", next_fire_times=(first,))


def entity_tag(schedule: ScheduleRow) -> str:
    """The ETag of what a user set: it changes with that, not with every fire."""
    return f'"{schedule.revision}"'
