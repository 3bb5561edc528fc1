"""How many accepted runs wait in the store, known without asking it for every submission.

A run counts from the moment it is admitted, before it is stored, so that a burst cannot slip past the
bound. The store is asked now and then, for it knows what other processes accepted and took. Where the two
overlap a run is counted twice until the next time: the count errs towards refusing, never past the bound.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable


class Backlog:
    """Counts; it decides nothing."""

    def __init__(self) -> None:
        self._waiting = 0
        self._storing = 0
        self._stored = 0

    @property
    def size(self) -> int:
        """Runs that wait, those included whose storing is under way."""
        return self._waiting + self._storing

    def admitted(self, runs: int = 1) -> None:
        """Runs are about to be stored."""
        self._storing += runs

    def stored(self, runs: int = 1) -> None:
        """They are durable."""
        self._storing -= runs
        self._waiting += runs
        self._stored += runs

    def refused(self, runs: int = 1) -> None:
        """They were not stored after all."""
        self._storing -= runs

    def taken(self) -> None:
        """A waiting run left the queue."""
        self._waiting = max(0, self._waiting - 1)

    async def recount(self, count: Callable[[], Awaitable[int]]) -> None:
        """Ask how many there are. What is stored meanwhile may be among them or not: it is added."""
        before = self._stored
        counted = await count()
        self._waiting = counted + self._stored - before
