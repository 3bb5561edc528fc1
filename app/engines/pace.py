"""Long work on the event loop, in slices: everything else gets its turn in between."""

from __future__ import annotations

import asyncio
from typing import Final

SLICE_SECONDS: Final = 0.01
"""How long work goes on before others get their turn."""


class Pace:
    """One for each piece of work; `keep` it between any two steps that are short by themselves."""

    def __init__(self, slice_seconds: float = SLICE_SECONDS) -> None:
        self._slice = slice_seconds
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + slice_seconds

    async def keep(self) -> None:
        """Let others have their turn if this one was long enough."""
        if self._loop.time() >= self._until:
            await asyncio.sleep(0)
            self._until = self._loop.time() + self._slice
