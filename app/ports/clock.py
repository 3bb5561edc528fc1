"""Time as a dependency."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall-clock time, and what tells that somebody has set it; durations are measured by the event loop."""

    @property
    def machine(self) -> str:
        """Which start of which machine this is: only uptimes of one start compare."""
        ...

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def uptime(self) -> float:
        """Seconds since the machine was started, which nobody can set.

        What is left of `now` without them changes if, and as far as, the clock is set.
        """
        ...
