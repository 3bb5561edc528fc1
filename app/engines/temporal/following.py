"""Who waits for the end of runs that workers execute.

Workers tell of ends, and one look at the store serves all who wait: at once after such news, rarely while
news come, often while they cannot.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from app.engines.history import History
from app.engines.live import LiveEvents
from app.engines.recovery import RunLoader
from app.engines.waiters import Waiters
from app.ports.errors import StoreError
from app.ports.runs import TERMINAL_STATUSES, RunStore

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 1.0
"""Between two looks at the store while workers can be heard."""
SOON_SECONDS: Final = 0.1
"""The same while they cannot, or may not have heard yet that somebody waits."""
UNHEARD_SECONDS: Final = 0.3
"""For how long that may be."""
GATHER_SECONDS: Final = 0.05
"""Between two looks at least: what ended meanwhile is found by one of them."""
RETRY_SECONDS: Final = 1.0


class Endings:
    """Who waits for which run to end. Looks only while somebody does."""

    def __init__(self, runs: RunStore, loader: RunLoader, live: LiveEvents) -> None:
        self._runs = runs
        self._loader = loader
        self._live = live
        self._news = asyncio.Event()
        self._unheard_until = 0.0
        self._waiters = Waiters()
        self._awaited: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None

    async def wait(self, run_id: str) -> History:
        """The ended run, once it has ended."""
        while True:
            with self._waiters.waiting(run_id) as ended, self._awaiting(run_id):
                if (history := await ended) is not None:
                    return history

    async def stop(self) -> None:
        """Look no more; whoever still waits does so in vain."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @contextmanager
    def _awaiting(self, run_id: str) -> Iterator[None]:
        self._awaited[run_id] += 1
        self._unheard_until = asyncio.get_running_loop().time() + UNHEARD_SECONDS
        self._news.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="endings")
        try:
            with self._live.awaiting(run_id, self._news.set):
                yield
        finally:
            self._awaited[run_id] -= 1
            if not self._awaited[run_id]:
                del self._awaited[run_id]

    async def _look(self) -> None:
        while self._awaited:
            self._news.clear()
            try:
                statuses = await self._runs.statuses([*self._awaited])
                for run_id, status in statuses.items():
                    if status in TERMINAL_STATUSES and (stored := await self._loader.load(run_id)):
                        self._waiters.tell(run_id, stored.history)
            except StoreError:
                log.warning("endings.not_read", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_look()):
                    await self._news.wait()

    def _until_look(self) -> float:
        unheard = asyncio.get_running_loop().time() < self._unheard_until
        return LOOK_SECONDS if self._live.connected and not unheard else SOON_SECONDS
