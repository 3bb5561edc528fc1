"""One after another by key: for a decision that reads, is awaited, and must still hold when it is acted on.

Between processes it keeps nothing apart; what may not be decided twice there is decided by the executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

K = TypeVar("K", bound=tuple[str, ...])


class Turns(Generic[K]):
    """Of one process. A key costs memory only while somebody has its turn or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[K, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """Keys of which somebody has the turn, or waits for it."""
        return len(self._locks)

    @asynccontextmanager
    async def of(self, keys: Iterable[K]) -> AsyncIterator[None]:
        """Wait for the turn of all of these keys, and keep it."""
        # Everybody takes them in one order, so that no two wait for each other.
        locks = [self._locks.setdefault(key, asyncio.Lock()) for key in sorted(set(keys))]
        async with AsyncExitStack() as stack:
            for lock in locks:
                await stack.enter_async_context(lock)
            yield
