"""Notices that somebody set the machine's clock, so that what is to last a time lasts that time.

Times in journals are the clock's. Timers in memory go by elapsed time, whatever the clock does; a time that
was worked out before the clock was set and is looked at afterwards is moved by as much (`ClockMoved`). That
holds over restarts of the service where the run was parked, but not over those of the machine and not between
machines: there the clock is all there is. What the calendar says (a wait until, schedules) is never moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.ports.clock import Clock

NOTICED_SECONDS: Final = 1.0
"""Less than that is left to the clock."""
BOOT: Final = "boot"
"""Under which name a reading stands beside an event."""


def brought_up(at: float, by: float, now: float) -> float:
    """A time of a moment ago by the clock as it is `now`: it was set `by` so much just before, or since."""
    return at + by if abs(at + by - now) < abs(at - now) else at


class Timekeeper:
    """Compares the clock with what it was like when times were worked out last."""

    def __init__(self, clock: Clock, noted: Mapping[str, Any] | None = None) -> None:
        """`noted`: a reading by `note`, of an earlier process perhaps; none: now."""
        self._clock = clock
        if noted is None or noted["id"] != clock.machine:
            noted = {"at": clock.now() - clock.uptime()}
        self._booted_at: float = noted["at"]
        """When the machine was started, by its clock when times were moved last."""

    def moved(self) -> float:
        """By how much the clock was set since the last time that it was; 0 for next to nothing."""
        clock = self._clock
        by = clock.now() - clock.uptime() - self._booted_at
        if -NOTICED_SECONDS < by < NOTICED_SECONDS:
            return 0.0
        self._booted_at += by
        return by

    def now(self) -> float:
        """What the clock would say if nobody had set it since times were moved last."""
        return self._booted_at + self._clock.uptime()

    def note(self) -> dict[str, Any]:
        """What the clock was like when the times that are known now were worked out."""
        return {"id": self._clock.machine, "at": self._booted_at}
