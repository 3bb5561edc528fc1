"""Time as a dependency."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Wall-clock time; durations are measured by the event loop's own clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...
