"""So much a minute: a token bucket, pure, with the time handed in.

The bucket holds a twentieth of the minute's amount (at least one) and fills at the pace that lets no
minute see more than the amount, whatever was saved up before it. An amount larger than the bucket is
taken when it is full, and paid back by what comes after.
"""

from __future__ import annotations

from typing import Final

MINUTE: Final = 60.0
BURST: Final = 0.05
"""Of a minute's amount, what may be taken at once."""
_TINY: Final = 1e-6
"""What rounding may cost."""


class Rate:
    """A bucket, full at first. Amounts beyond `per_minute` count as that: nothing can block it longer."""

    __slots__ = ("_at", "_capacity", "_level", "_most", "_per_second")

    def __init__(self, per_minute: int, now: float) -> None:
        self._most = float(per_minute)
        self._capacity = max(1.0, per_minute * BURST)
        self._per_second = (per_minute - self._capacity + 1) / MINUTE
        self._level = self._capacity
        self._at = now

    def ready_in(self, amount: float, now: float) -> float:
        """Seconds until the amount may be taken; 0 when it may be now."""
        self._level = min(self._capacity, self._level + (now - self._at) * self._per_second)
        self._at = now
        missing = min(amount, self._capacity) - self._level
        return 0.0 if missing < _TINY else missing / self._per_second

    def take(self, amount: float) -> None:
        """Take it, whether it is there or not."""
        self._level = max(self._level - min(amount, self._most), -self._most)

    def settle(self, taken: float, used: float) -> None:
        """Correct what was taken by what was used."""
        changed = min(taken, self._most) - min(used, self._most)
        self._level = max(min(self._level + changed, self._capacity), -self._most)
