"""Runs that another process may execute, followed from here: by what it tells, and by looks at the journal.

What others tell comes at once, and deltas come no other way. The looks find what nobody told: rarely while
news come, often while they cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from app.engines.engine import Delta
from app.engines.live import LiveEvents, LiveListener
from app.ports.runs import Journal

FIRST_LOOK_SECONDS: Final = 0.1
"""Whoever executes may not have heard yet that somebody listens; from look to look it is twice as long."""
LOOK_SECONDS: Final = 1.0
"""Between two looks while news come."""
DEAF_SECONDS: Final = 0.2
"""The same while none can come."""
GRACE_SECONDS: Final = 0.5
"""How long events that are in the journal wait for the deltas before them to be told."""


class Following:
    """Implements `app.engines.engine.Listener` for runs of any process."""

    def __init__(
        self,
        ear: LiveListener,
        journal: Journal,
        run_id: str,
        *,
        here: Callable[[], bool],
        connected: Callable[[], bool],
    ) -> None:
        """`here` tells whether this process executes all runs, `connected` whether news come from others."""
        self._ear = ear
        self._journal = journal
        self._run_id = run_id
        self._here = here
        self._connected = connected
        self._pause = FIRST_LOOK_SECONDS

    async def wait(self, *, after: int, seconds: float) -> bool:
        """Wait for events past `after` or for deltas; False if time ran out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            left = deadline - loop.time()
            if await self._ear.wait(after=after, seconds=max(0.0, min(left, self._until_look()))):
                return True
            if not self._here() and await self._there_is_more(after):
                return True
            if loop.time() >= deadline:
                return False

    def deltas(self) -> Sequence[Delta]:
        """Take what came since the last call."""
        return self._ear.deltas()

    def horizon(self) -> int | None:
        """Deltas from before this event are here, and more of them may be on their way."""
        if not self._connected():
            self._ear.forget_horizon()
        return self._ear.horizon()

    def _until_look(self) -> float:
        if self._here():
            return LOOK_SECONDS
        if not self._connected():
            return DEAF_SECONDS
        pause, self._pause = self._pause, min(2 * self._pause, LOOK_SECONDS)
        return pause

    async def _there_is_more(self, after: int) -> bool:
        rows = await self._journal.read(self._run_id, after=after, limit=1)
        if not rows:
            return False
        horizon = self.horizon()
        untold = horizon is not None and rows[0].seq > horizon
        # Whoever executes the run tells of it, but not of this: it is about to, or it is no more.
        if untold and not await self._ear.wait(after=after, seconds=GRACE_SECONDS):
            self._ear.forget_horizon()
        return True


@contextmanager
def following(
    live: LiveEvents, journal: Journal, run_id: str, *, here: Callable[[], bool]
) -> Iterator[Following]:
    """Follow a run for as long as the context is open."""
    with live.listen(run_id) as ear:
        yield Following(ear, journal, run_id, here=here, connected=lambda: live.connected)
