"""News of runs for whoever listens in this process: "there is more", and token deltas.

A listener holds no events, it only learns how far the journal has come; readers take the rows from the
store. So a reader that stands still costs nothing, and none can miss or repeat an event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.engines.engine import Delta

MAX_DELTAS = 1024
"""Deltas kept for a listener that does not take them; older ones are dropped."""


class LiveListener:
    """One reader's ear."""

    def __init__(self) -> None:
        self._seq = 0
        self._deltas: deque[Delta] = deque(maxlen=MAX_DELTAS)
        self._news = asyncio.Event()

    async def wait(self, *, after: int, seconds: float) -> bool:
        """Wait for events past `after` or for deltas; False if time ran out."""
        if self._seq <= after and not self._deltas:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return False
        return True

    def deltas(self) -> Sequence[Delta]:
        """Take what came since the last call."""
        taken = tuple(self._deltas)
        self._deltas.clear()
        return taken

    def hear(self, seq: int) -> None:
        """The journal holds events up to `seq`."""
        self._seq = seq
        self._news.set()

    def hear_delta(self, delta: Delta) -> None:
        """A piece of an answer came."""
        self._deltas.append(delta)
        self._news.set()


class LiveEvents:
    """Who listens to which run."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[LiveListener]] = {}

    @contextmanager
    def listen(self, run_id: str) -> Iterator[LiveListener]:
        """Listen for as long as the context is open."""
        listener = LiveListener()
        self._listeners.setdefault(run_id, set()).add(listener)
        try:
            yield listener
        finally:
            listeners = self._listeners[run_id]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[run_id]

    def publish(self, run_id: str, seq: int) -> None:
        """Events up to `seq` are durable."""
        for listener in self._listeners.get(run_id, ()):
            listener.hear(seq)

    def publish_delta(self, run_id: str, delta: Delta) -> None:
        """Pass a piece of an answer on."""
        for listener in self._listeners.get(run_id, ()):
            listener.hear_delta(delta)
