"""Forgetting what is no longer wanted: runs that ended long ago, and what has expired.

Everything is deleted in small batches with a pause after each, so that no run waits for a deletion. What a
pass does not get done, because the store refuses or the process ends, the next pass does. What does not
belong here: what a run consists of, which the store knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from app.ports.clock import Clock
from app.ports.errors import StoreError
from app.ports.runs import Store

log = structlog.get_logger(__name__)

FIRST_SECONDS: Final = 5.0
"""Until the first pass: a process that never gets old forgets what it should, too."""


class Retention:
    """One for a process; `run` it as a task for as long as the store is open."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        keep_seconds: float | None,
        keep_answers_seconds: float,
        batch: int = 100,
        pause: float = 0.1,
        every: float = 600.0,
    ) -> None:
        """Finished runs go after `keep_seconds` (None: never), answers under idempotency keys after
        `keep_answers_seconds`. `pause` seconds lie between two batches, `every` between two passes.
        """
        self._store = store
        self._clock = clock
        self._keep = keep_seconds
        self._keep_answers = keep_answers_seconds
        self._batch = batch
        self._pause = pause
        self._every = every

    async def run(self) -> None:
        """Pass after pass, until it is cancelled."""
        await asyncio.sleep(min(FIRST_SECONDS, self._every))
        while True:
            await self.sweep()
            await asyncio.sleep(self._every)

    async def sweep(self) -> None:
        """One pass: delete all that has had its time. Never raises `StoreError`."""
        for what, delete in (
            ("answers", self._answers),
            ("step_cache", self._cached),
            ("runs", self._runs),
        ):
            try:
                count = await delete()
            except StoreError:
                log.warning("retention.failed", what=what, exc_info=True)
            else:
                if count:
                    log.info("retention.deleted", what=what, count=count)

    async def _answers(self) -> int:
        return await self._store.idempotency.prune(self._clock.now() - self._keep_answers)

    async def _cached(self) -> int:
        now = self._clock.now()
        return await self._in_batches(lambda: self._store.cache.prune(now, limit=self._batch))

    async def _runs(self) -> int:
        if self._keep is None:
            return 0
        before = self._clock.now() - self._keep
        return await self._in_batches(lambda: self._store.runs.prune(before, limit=self._batch))

    async def _in_batches(self, delete: Callable[[], Awaitable[int]]) -> int:
        total = 0
        while count := await delete():
            total += count
            await asyncio.sleep(self._pause)
        return total
