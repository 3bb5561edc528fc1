"""Who waits for which run to end."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from types import TracebackType

from app.engines.history import History


class Waiters:
    """Futures by run id."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Future[History | None]]] = {}

    def waiting(self, run_id: str) -> AbstractContextManager[asyncio.Future[History | None]]:
        """A future that gets the ended run, or None when it leaves memory before its end."""
        return _Waiting(self._waiting, run_id)

    def tell(self, run_id: str, history: History | None) -> None:
        """The run has ended, or (None) has left memory."""
        for future in self._waiting.get(run_id, ()):
            if not future.done():
                future.set_result(history)


class _Waiting:
    """One that waits. A class, because a generator as context manager costs three times as much."""

    __slots__ = ("_ended", "_run_id", "_waiting")

    def __init__(self, waiting: dict[str, set[asyncio.Future[History | None]]], run_id: str) -> None:
        self._waiting = waiting
        self._run_id = run_id

    def __enter__(self) -> asyncio.Future[History | None]:
        self._ended: asyncio.Future[History | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(self._run_id, set()).add(self._ended)
        return self._ended

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.cancel()
        futures = self._waiting[self._run_id]
        futures.discard(self._ended)
        if not futures:
            del self._waiting[self._run_id]
