"""Notices that somebody set the machine's clock, so that what is to last a time lasts that time.

Times in journals are the clock's. Timers in memory go by elapsed time, whatever the clock does; a time that
was worked out before the clock was set and is looked at afterwards is moved by as much (`ClockMoved`). That
holds over restarts of the service where the run was parked, but not over those of the machine and not between
machines: there the clock is all there is. What the calendar says (a wait until, schedules) is never moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.ports.clock import Boot, Clock

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
        here = clock.boot()
        self._boot = here
        if noted is not None and noted["id"] == here.id:
            self._boot = Boot(noted["id"], noted["at"])

    def moved(self) -> float:
        """By how much the clock was set since the last time that it was; 0 for next to nothing."""
        boot = self._clock.boot()
        by = boot.at - self._boot.at
        if abs(by) < NOTICED_SECONDS:
            return 0.0
        self._boot = boot
        return by

    def now(self) -> float:
        """What the clock would say if nobody had set it since times were moved last."""
        return self._clock.now() - (self._clock.boot().at - self._boot.at)

    def note(self) -> dict[str, Any]:
        """What the clock was like when the times that are known now were worked out."""
        return {"id": self._boot.id, "at": self._boot.at}
