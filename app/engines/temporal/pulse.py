"""Whether this process stood still for a while: frozen, starved, or stopped and continued.

What it was given before that may be somebody else's by now, so it is to be asked for before it is begun.
"""

from __future__ import annotations

import asyncio
from typing import Final

BEAT_SECONDS: Final = 0.25
GAP_SECONDS: Final = 1.0
"""A beat that comes later than that tells that the process stood still."""


class Pulse:
    """Owns one task."""

    def __init__(self, doubt_seconds: float) -> None:
        """For how long after a standstill everything is doubtful: no shorter than the heartbeat time-out."""
        self._doubt = doubt_seconds
        self._beat_at = 0.0
        self._back_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._beat_at = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._beat(), name="pulse")

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def doubtful(self) -> bool:
        """Whether the process stood still until a moment ago."""
        now = asyncio.get_running_loop().time()
        if now - self._beat_at > GAP_SECONDS:
            self._back_at = now
        return now - self._back_at < self._doubt

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.doubtful()
            self._beat_at = asyncio.get_running_loop().time()
