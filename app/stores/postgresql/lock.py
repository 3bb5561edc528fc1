"""The executor lock of a database: an advisory lock, which the server keeps while one connection lives.

The connection serves nothing else. When it breaks the lock is lost: another process may take it. A server
that cannot be heard may have given it away already, so the connection is asked for a sign of life now and
then, and broken off when there is none. A process that stands still asks nothing, though the system under it
keeps its connections alive: the server ends that of the lock then, and another process goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import asyncpg
import structlog

from app.ports.errors import StoreUnavailable
from app.stores.postgresql.connection import SILENT_SECONDS, Address
from app.stores.postgresql.faults import ERRORS, outage
from app.stores.postgresql.text import Sql, load_sql, numbered

EXECUTOR_LOCK: Final = 710_523_101
BEAT_SECONDS: Final = 2.0

log = structlog.get_logger(__name__)


class AdvisoryLock:
    """`app.ports.lock.ExecutorLock`. `acquire` raises `StoreUnavailable` when the server cannot be asked."""

    def __init__(
        self,
        address: Address,
        *,
        beat_seconds: float = BEAT_SECONDS,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        """The lock is given away `silent_seconds` after the last beat: let several of them fit in."""
        self._address = address
        self._sql: Sql = load_sql()
        self._beat_seconds = beat_seconds
        self._silent_seconds = silent_seconds
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._held = False

    @property
    def held(self) -> bool:
        """Whether this object holds the lock, as far as it can know."""
        return self._held and self._connection is not None and not self._connection.is_closed()

    async def acquire(self) -> bool:
        """Try once; True when held now."""
        if self.held:
            return True
        text, _ = numbered(self._sql["executor_lock"])
        try:
            connection = await self._connected()
            self._held = bool(await connection.fetchval(text, EXECUTOR_LOCK, timeout=self._beat_seconds))
        except ERRORS as error:
            await self._disconnect()
            raise outage(error) or StoreUnavailable(
                f"the database refused the executor lock ({type(error).__name__}): see its log"
            ) from error
        if self._held:
            self._beating = asyncio.create_task(self._beat(connection), name="executor-lock")
        return self._held

    async def release(self) -> None:
        """Give it up; harmless when not held."""
        await self._disconnect()

    async def _connected(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            await self._disconnect()
            silence = round(1000 * self._silent_seconds)
            self._connection = await self._address.connect(idle_session_timeout=str(silence))
        return self._connection

    async def _disconnect(self) -> None:
        self._held = False
        beating, self._beating = self._beating, None
        if beating is not None:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*ERRORS):
                await connection.close(timeout=1.0)

    async def _beat(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Ask for a sign of life until there is none."""
        try:
            while True:
                await asyncio.sleep(self._beat_seconds)
                await connection.fetchval("SELECT 1", timeout=self._beat_seconds)
        except ERRORS as error:
            connection.terminate()
            log.warning("executor_lock_lost", error=type(error).__name__)
