"""The step cache of the SQL stores."""

from __future__ import annotations

from typing import Final

from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.units import Keep
from app.stores.sql.writer import Writer

LARGE_BYTES: Final = 256 * 1024
"""A value from this size on goes out alone, so that no run waits for the commit of many of them."""
MAX_BYTES: Final = 64 * 1024 * 1024
"""Values that one transaction deletes; at least one goes in any case."""
PAGE_BYTES: Final = 4096
FEW_PAGES: Final = 20


class SqlStepCache:
    """`app.ports.runs.StepCache`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql

    async def find(self, tenant: str, key: str, now: float) -> bytes | None:
        parameters = {"tenant": tenant, "key": key, "now": now}
        row = await self._readers.row(self._sql["cache_find"], parameters)
        return None if row is None else row[0]

    async def save(self, tenant: str, key: str, value: bytes, *, expires_at: float) -> None:
        if len(value) < LARGE_BYTES:
            await self._writer.store(Keep(tenant, key, value, expires_at))
            return
        pages = len(value) // PAGE_BYTES + FEW_PAGES
        await self._writer.run(
            lambda connection: self._save(connection, (tenant, key, value, expires_at)), pages=pages
        )

    async def prune(self, now: float, *, limit: int) -> int:
        return await self._writer.run(lambda connection: self._prune(connection, now, limit))

    def _save(self, connection: Connection, row: tuple[str, str, bytes, float]) -> None:
        for text, values in self._sql.bulk["upsert_step_cache"].statements([*row]):
            connection.execute(text, values)

    def _prune(self, connection: Connection, now: float, limit: int) -> int:
        expired = connection.execute(self._sql["cache_expired"], {"now": now, "limit": limit}).fetchall()
        left, count = MAX_BYTES, 0
        for tenant, key, size in expired:
            if left <= 0:
                break
            connection.execute(self._sql["cache_delete"], {"tenant": tenant, "key": key})
            left, count = left - size, count + 1
        return count
