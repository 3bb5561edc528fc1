"""Runs that are under way by the store, and in nobody's hands.

A process whose executor lock was given to another one, because the database did not hear it, stores what was
on its way as soon as it is heard again: also runs that it has accepted and begun. The new executor may have
recovered before, so it goes on looking. What such a process writes of runs that are known is refused by their
journals; these nobody else knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from app.engines.fleet import Fleet
from app.ports.runs import RunRow, RunStore

UNDER_WAY: Final = frozenset({"running", "cancelling"})
AT_ONCE: Final = 1000


class Strays:
    """Looks for them every so many seconds, on behalf of the executor."""

    def __init__(self, runs: RunStore, fleet: Fleet, *, seconds: float) -> None:
        self._runs = runs
        self._fleet = fleet
        self._seconds = seconds
        self._next_look = 0.0
        self._seen: frozenset[str] = frozenset()

    def due(self) -> bool:
        """Whether it is time for a look, which is taken to follow."""
        now = asyncio.get_running_loop().time()
        if now < self._next_look:
            return False
        self._next_look = now + self._seconds
        return True

    async def found(self) -> Sequence[RunRow]:
        """Those that the look before has seen, too: one alone may meet a run on its way in or out."""
        rows = await self._runs.unfinished(limit=AT_ONCE, statuses=UNDER_WAY, exclude=self._fleet.known)
        strays = [row for row in rows if row.id not in self._fleet.known]
        before, self._seen = self._seen, frozenset(row.id for row in strays)
        return [row for row in strays if row.id in before]
