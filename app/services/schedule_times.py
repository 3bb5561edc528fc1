"""When a schedule fires: cron expressions and intervals as functions of time, without a clock.

Cron follows Debian's (that is cronsim's rule): an expression whose minute and hour are both fixed fires
once a day whatever the clocks do; where its time does not exist it fires at the end of the gap, where its
time comes twice it fires the first time. An expression with `*` in minute or hour follows the clock
on the wall: hours that are left out have no fires, hours that come twice have twice as many. Intervals are
counted in elapsed time from an anchor, so no time zone matters to them.

Every answer is strictly later than the question, so a fire time never comes twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim

from app.dsl.spelling import Speller
from app.ports.errors import OrchestratorError
from app.ports.problems import Problem
from app.ports.schedules import ScheduleSpec
from app.services.cron_words import cron_problem, plain

EARLIEST: Final = 0.0
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""Where times of schedules end; cron is searched for fifty years more."""


class TimingInvalid(OrchestratorError):
    """A schedule's times cannot be worked out; the pointers of `problems` are members of the spec."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(problem.detail for problem in problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The times of one schedule. Exactly one of `cron` and `interval` is set."""

    cron: str | None
    interval: int | None
    zone: tzinfo
    anchor: float
    start_at: float | None
    end_at: float | None

    def next_after(self, at: float) -> float | None:
        """The first fire time later than `at`; None when there is none any more."""
        if self.start_at is not None:
            at = max(at, math.ceil(self.start_at) - 1)
        found = self._next_interval(at) if self.interval is not None else self._next_cron(at)
        if found is None or found > LATEST or (self.end_at is not None and found > self.end_at):
            return None
        return found

    def following(self, at: float, most: int) -> Iterator[float]:
        """The fire times later than `at`, in order, at most that many; each is worked out when asked for."""
        found = self.next_after(at)
        while most > 0 and found is not None:
            yield found
            most -= 1
            found = self.next_after(found) if most else None

    def last_until(self, earliest: float, now: float) -> float | None:
        """The latest fire time from `earliest` to `now`, both included; None when there is none."""
        low, high = math.ceil(earliest) - 1, math.floor(now)
        if not self._fires_within(low, high):
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self._fires_within(middle, high):
                low = middle
            else:
                high = middle
        return float(high)

    def _fires_within(self, after: float, until: float) -> bool:
        found = self.next_after(after)
        return found is not None and found <= until

    def _next_interval(self, at: float) -> float:
        interval = self.interval or 1
        first = 0 if self.start_at is not None else 1
        return self.anchor + max(first, math.floor((at - self.anchor) / interval) + 1) * interval

    def _next_cron(self, at: float) -> float | None:
        # A cron time that comes twice belongs to the first: the second may be asked about.
        for found in _Cron(self.cron or "", datetime.fromtimestamp(at, self.zone)):
            if (seconds := found.timestamp()) > at:
                return seconds
        return None


class _Cron(CronSim):
    """Goes to the beginning of the next hour that matches also where clocks are set by half an hour."""

    def advance_hour(self) -> bool:
        """True if `dt` was moved. Hours are passed in whole ones, which may end in the middle of the last."""
        moved = super().advance_hour()
        if moved and self.dt.minute:
            since = timedelta(minutes=self.dt.minute)
            begins = (self.dt.astimezone(UTC) - since).astimezone(self.dt.tzinfo)
            if begins.hour == self.dt.hour:
                self.dt = begins
        return moved


def timing_of(spec: ScheduleSpec, *, anchor: float) -> Timing:
    """The times of a spec. Raises `TimingInvalid` with everything that is wrong with them.

    Reads files for a time zone that is new to the process, many of them for one that does not exist.
    """
    problems = [*_zone_problems(spec.time_zone), *_kind_problems(spec), *_bounds_problems(spec)]
    if problems:
        raise TimingInvalid(problems)
    return Timing(
        cron=None if spec.cron is None else plain(spec.cron),
        interval=spec.interval_seconds,
        zone=UTC if spec.time_zone == "UTC" else ZoneInfo(spec.time_zone),
        anchor=anchor,
        start_at=spec.start_at,
        end_at=spec.end_at,
    )


def _kind_problems(spec: ScheduleSpec) -> Iterator[Problem]:
    if spec.cron is not None:
        yield from _cron_problems(spec.cron)
        if spec.interval_seconds is not None:
            detail = "a schedule has either cron or interval_seconds"
            yield Problem(pointer="/interval_seconds", detail=detail, hint="leave one of them out")
    elif spec.interval_seconds is None:
        hint = "give cron, such as '0 9 * * MON-FRI', or interval_seconds, such as 300"
        yield Problem(pointer="", detail="it is not said when the schedule fires", hint=hint)


def _bounds_problems(spec: ScheduleSpec) -> Iterator[Problem]:
    for name, at in (("start_at", spec.start_at), ("end_at", spec.end_at)):
        if at is not None and not EARLIEST <= at <= LATEST:
            hint = "give a time from 1970 to 2199"
            yield Problem(pointer=f"/{name}", detail=f"{name} is out of range", hint=hint)
    if spec.start_at is not None and spec.end_at is not None and spec.start_at > spec.end_at:
        yield Problem(pointer="/end_at", detail="end_at is before start_at", hint="let it end later")


def _zone_problems(name: str) -> Iterator[Problem]:
    if name == "UTC" or _is_zone(name):
        return
    near = Speller(len(_zone_names())).nearest(name, _zone_names())
    hint = f"did you mean {near!r}?" if near else "write a name of the IANA database, such as 'Europe/Berlin'"
    yield Problem(pointer="/time_zone", detail=f"there is no time zone {name!r}", hint=hint)


def _is_zone(name: str) -> bool:
    """Whether the database has it. Reads the one file, which is kept; looking at all names would read 600."""
    if name.startswith(("posix", "right/")):
        return False  # the same zones under other names, on machines that have them
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@cache
def _zone_names() -> frozenset[str]:
    """Read once, for a refusal: it looks at some 600 files, so ask on a thread."""
    return frozenset(available_timezones())


@lru_cache(maxsize=4096)
def _cron_problems(cron: str) -> tuple[Problem, ...]:
    """Kept, because to find that an expression never matches takes ten milliseconds."""
    problem = cron_problem(cron)
    return () if problem is None else (problem,)
