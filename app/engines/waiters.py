"""Who waits for which run to end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from app.engines.history import History


class Waiters:
    """Futures by run id."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[History | None]]] = {}

    @contextmanager
    def waiting(self, run_id: str) -> Iterator[asyncio.Future[History | None]]:
        """A future that gets the ended run, or None when it leaves memory before its end."""
        ended: asyncio.Future[History | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(run_id, set()).add(ended)
        try:
            yield ended
        finally:
            ended.cancel()
            futures = self._waiting[run_id]
            futures.discard(ended)
            if not futures:
                del self._waiting[run_id]

    def tell(self, run_id: str, history: History | None) -> None:
        """The run has ended, or (None) has left memory."""
        for future in self._waiting.get(run_id, ()):
            if not future.done():
                future.set_result(history)
