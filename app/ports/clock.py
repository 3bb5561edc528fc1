"""Time as a dependency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Boot:
    """The start of the machine. Two readings of one start differ if, and as far as, the clock was set between
    them: nobody can set what the time since the start is measured with."""

    id: str
    at: float
    """Seconds since the epoch, by what the clock says now."""


class Clock(Protocol):
    """Wall-clock time; durations are measured by the event loop's own clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def boot(self) -> Boot:
        """When this machine was started, by its clock of this moment."""
        ...
