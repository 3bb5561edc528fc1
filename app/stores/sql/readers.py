"""Reads: a few read-only connections on threads of their own, never behind the writer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from app.ports.errors import StoreError, StoreUnavailable
from app.stores.sql.faults import outage
from app.stores.sql.rows import Row
from app.stores.sql.schema import connect_reader

T = TypeVar("T")


class Readers:
    """All connections are opened at the start and kept: while one is open, SQLite keeps the files beside
    the database that every read needs, so reads go on when the writer lost its connection to a full disk.
    """

    def __init__(self, path: Path, *, size: int) -> None:
        self._path = path
        self._idle: deque[sqlite3.Connection] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._size = size

    def start(self) -> None:
        """Get ready for reads; blocks for as long as opening files takes."""
        self._idle.extend(connect_reader(self._path) for _ in range(self._size))
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="store-read")

    async def run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Execute an action on a connection that holds no transaction. Raises `StoreError`."""
        if self._threads is None:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._perform, action)

    async def rows(self, text: str, parameters: Mapping[str, Any]) -> list[Row]:
        """All rows of one statement."""
        return await self.run(lambda connection: connection.execute(text, parameters).fetchall())

    async def row(self, text: str, parameters: Mapping[str, Any]) -> Row | None:
        """The first row of one statement."""
        rows = await self.rows(text, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Finish the reads in hand, then release the connections."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown)
        while self._idle:
            self._idle.pop().close()

    def _perform(self, action: Callable[[sqlite3.Connection], T]) -> T:
        connection = None
        try:
            # No more threads than connections: one that finds none idle replaces one that broke.
            connection = self._idle.pop() if self._idle else connect_reader(self._path)
            result = action(connection)
        except (sqlite3.Error, UnicodeError, OverflowError) as error:
            if connection is not None:
                connection.close()
            raise outage(error) or StoreError(f"the read failed ({type(error).__name__}): {error}") from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._idle.append(connection)
        return result
