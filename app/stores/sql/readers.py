"""Reads: a few read-only connections on threads of their own, never behind the writer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.turns import in_short_turns
from app.stores.sql import connections
from app.stores.sql.faults import outage
from app.stores.sql.schema import connect_reader

T = TypeVar("T")

READ_ERRORS: Final = (sqlite3.Error, UnicodeError, OverflowError)


class ReadConnection(connections.Connection, Protocol):
    """One that can be given up."""

    def close(self) -> None:
        """Release it."""
        ...


class ReadPool:
    """`app.stores.sql.connections.Readers`. All connections are opened at the start and kept.

    `errors` is what a read may raise, `failure` says what that means. `again`: a read on a connection that
    was idle and turns out to be broken is repeated on a new one.
    """

    def __init__(
        self,
        connect: Callable[[], ReadConnection],
        *,
        size: int,
        errors: tuple[type[Exception], ...],
        failure: Callable[[BaseException], StoreUnavailable | None],
        again: Callable[[BaseException], bool] = lambda _: False,
    ) -> None:
        self._connect = connect
        self._errors = errors
        self._failure = failure
        self._again = again
        self._idle: deque[ReadConnection] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._size = size

    def start(self) -> None:
        """Get ready for reads; blocks for as long as connecting takes."""
        self._idle.extend(self._connect() for _ in range(self._size))
        self._threads = ThreadPoolExecutor(self._size, thread_name_prefix="store-read")

    async def run(self, action: Callable[[connections.Connection], T]) -> T:
        """Execute an action on a connection that holds no transaction. Raises `StoreError`."""
        if self._threads is None:
            raise StoreUnavailable("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, in_short_turns, self._perform, action
        )

    async def rows(self, text: str, parameters: Mapping[str, Any]) -> list[Any]:
        """All rows of one statement."""
        return await self.run(lambda connection: connection.execute(text, parameters).fetchall())

    async def row(self, text: str, parameters: Mapping[str, Any]) -> Any:
        """The first row of one statement, or None."""
        rows = await self.rows(text, parameters)
        return rows[0] if rows else None

    async def close(self) -> None:
        """Finish the reads in hand, then release the connections."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(self._release, threads)

    def _release(self, threads: ThreadPoolExecutor) -> None:
        threads.shutdown()
        while self._idle:
            self._idle.pop().close()

    def _perform(self, action: Callable[[connections.Connection], T]) -> T:
        # No more threads than connections: one that finds none idle replaces one that broke.
        try:
            idle = self._idle.pop() if self._idle else None
            if idle is not None:
                try:
                    return self._perform_on(idle, action)
                except self._errors as error:
                    if not self._again(error):
                        raise
            return self._perform_on(self._connect(), action)
        except self._errors as error:
            failure = self._failure(error)
            raise failure or StoreError(f"the read failed ({type(error).__name__}): {error}") from error

    def _perform_on(self, connection: ReadConnection, action: Callable[[connections.Connection], T]) -> T:
        try:
            result = action(connection)
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return result


class Readers(ReadPool):
    """Of a SQLite file: while one of its connections is open, SQLite keeps the files beside the database that
    every read needs, so reads go on when the writer lost its connection to a full disk."""

    def __init__(self, path: Path, *, size: int) -> None:
        super().__init__(lambda: connect_reader(path), size=size, errors=READ_ERRORS, failure=outage)
