"""A bound on the attempts in flight in this process, granted first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Slots:
    """Counts slots. `grant` callbacks run synchronously when a slot becomes theirs."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._waiting: deque[Callable[[], bool]] = deque()

    @property
    def waiting(self) -> int:
        """How many attempts wait for a slot."""
        return len(self._waiting)

    def take(self) -> bool:
        """Take a slot now if one is free and nobody waits for it."""
        if self._free and not self._waiting:
            self._free -= 1
            return True
        return False

    def request(self, grant: Callable[[], bool]) -> None:
        """Call `grant` once a slot is free; a grant that answers False does not want it any more."""
        self._waiting.append(grant)

    def give_back(self) -> None:
        """Return a slot; the next in line gets it."""
        self._free += 1
        while self._free and self._waiting:
            self._free -= 1
            if not self._waiting.popleft()():
                self._free += 1
