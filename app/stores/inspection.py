"""What can be seen of a store without changing it, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """A store at one moment. Times are seconds."""

    schema_version: int | None
    """None: it has no tables yet, or those of another program."""
    foreign: bool = False
    """Whether it holds tables of another program."""
    unfinished: int = 0
    """Runs that have not ended."""
    executing: bool = False
    """Whether a process executes runs."""
    server: str | None = None
    """Name and version of the server; None for a file."""
    round_trip: float = 0.0
    clock_ahead: float = 0.0
    """How far the server's clock is before this machine's."""
    connections: int = 0
    """Of all clients, now."""
    max_connections: int = 0
    read_only: bool = False
    relaxed: Sequence[str] = ()
    """Settings of the server that let it lose what it confirmed."""
