"""Runs that another process executes, followed through the store: who ended, and whether there is more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog

from app.engines.engine import Delta
from app.engines.history import History
from app.engines.recovery import RunLoader
from app.engines.waiters import Waiters
from app.ports.errors import StoreError
from app.ports.runs import TERMINAL_STATUSES, Journal, RunStore

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.1
"""Between two looks at the store; one look serves all who wait for an end."""
RETRY_SECONDS: Final = 1.0


class Endings:
    """Who waits for which run to end. Looks only while somebody does."""

    def __init__(self, runs: RunStore, loader: RunLoader) -> None:
        self._runs = runs
        self._loader = loader
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
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(), name="endings")
        try:
            yield
        finally:
            self._awaited[run_id] -= 1
            if not self._awaited[run_id]:
                del self._awaited[run_id]

    async def _look(self) -> None:
        while self._awaited:
            try:
                statuses = await self._runs.statuses([*self._awaited])
                for run_id, status in statuses.items():
                    if status in TERMINAL_STATUSES and (stored := await self._loader.load(run_id)):
                        self._waiters.tell(run_id, stored.history)
            except StoreError:
                log.warning("endings.not_read", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)
            await asyncio.sleep(LOOK_SECONDS)


class JournalListener:
    """Implements `app.engines.engine.Listener` over the journal. Deltas do not leave the worker."""

    def __init__(self, journal: Journal, run_id: str) -> None:
        self._journal = journal
        self._run_id = run_id

    async def wait(self, *, after: int, seconds: float) -> bool:
        """Wait for events past `after`; False if time ran out."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not await self._journal.read(self._run_id, after=after, limit=1):
            left = deadline - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(LOOK_SECONDS, left))
        return True

    def deltas(self) -> Sequence[Delta]:
        """None ever come."""
        return ()
