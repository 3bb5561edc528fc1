"""Runs on their way to Temporal: told to it until it has heard, however long it is away.

Nothing is lost with this memory: a run that is stored as `pending` is its own entry in the outbox, and
whoever leads the processes finds it there (`sweep`). What is kept here saves the way through the store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from app.engines.temporal.belonging import Placed

log = structlog.get_logger(__name__)

AT_ONCE: Final = 32
"""Calls in flight."""
MOST: Final = 20_000
"""Runs that are remembered; beyond it the store remembers them."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0


class NotPlaced(Exception):
    """Temporal did not take the run: it is away, or refuses."""


class Placer(Placed, Protocol):
    """Who places runs on workers."""

    async def check(self) -> None:
        """Raise `PermanentError` if runs can never be placed as configured, `NotPlaced` if not now."""
        ...

    async def place(self, run_id: str, *, queue: str, wake: bool) -> None:
        """Place the run, or `wake` the one that is placed. Idempotent. Raises `NotPlaced`."""
        ...


@dataclass(slots=True)
class _Wanted:
    queue: str
    wake: bool


class Outbox:
    """Owns one task. `offer` may be called before `start`."""

    def __init__(self, placer: Placer) -> None:
        self._placer = placer
        self._wanted: OrderedDict[str, _Wanted] = OrderedDict()
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        """Temporal has heard of everything."""
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._pause = 0.0

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def stuck(self) -> bool:
        """Temporal did not take the last runs that it was offered."""
        return self._pause > 0

    def offer(self, run_id: str, *, queue: str, wake: bool = False) -> None:
        """Have a run placed or woken soon."""
        known = self._wanted.get(run_id)
        if known is not None:
            known.wake = known.wake or wake
        elif len(self._wanted) < MOST:
            self._wanted[run_id] = _Wanted(queue, wake)
        self._idle.clear()
        self._news.set()

    def start(self) -> None:
        """Begin to tell."""
        self._task = asyncio.create_task(self._tell(), name="outbox")

    async def stop(self, *, seconds: float = 0.0) -> None:
        """Give what is wanted that long, then leave it to the store."""
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
            task, self._task = self._task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _tell(self) -> None:
        while True:
            await self._news.wait()
            batch = [self._wanted.popitem(last=False) for _ in range(min(AT_ONCE, len(self._wanted)))]
            if not batch:
                self._news.clear()
                self._idle.set()
                continue
            failures = await asyncio.gather(*(self._place(run_id, wanted) for run_id, wanted in batch))
            refused = next((failure for failure in failures if failure is not None), None)
            if refused is None:
                self._reached()
                continue
            await self._rest(refused)

    async def _place(self, run_id: str, wanted: _Wanted) -> Exception | None:
        try:
            await self._placer.place(run_id, queue=wanted.queue, wake=wanted.wake)
        except NotPlaced as failure:
            self.offer(run_id, queue=wanted.queue, wake=wanted.wake)
            return failure
        except BaseException:
            self.offer(run_id, queue=wanted.queue, wake=wanted.wake)
            raise
        return None

    def _reached(self) -> None:
        if self.stuck:
            log.info("temporal.reached")
        self._pause = 0.0

    async def _rest(self, failure: Exception) -> None:
        if not self.stuck:
            log.warning("temporal.away", error=str(failure), waiting=len(self._wanted))
        self._pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, self._pause * 2))
        await asyncio.sleep(self._pause)
