"""Reads and writes about runs that wait, the runs they called, and concurrency keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from app.ports.runs import RunRow
from app.stores.sql.readers import Readers
from app.stores.sql.rows import run_from
from app.stores.sql.text import Sql
from app.stores.sql.writer import Writer


class ParkedRuns:
    """A part of `app.ports.runs.RunStore`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Sql) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql

    async def due(self, now: float, *, limit: int) -> Sequence[RunRow]:
        rows = await self._readers.rows(self._sql["runs_due"], {"now": now, "limit": limit})
        return [run_from(row) for row in rows]

    async def next_wake(self) -> float | None:
        row = await self._readers.row(self._sql["next_wake"], {})
        return None if row is None or row[0] == math.inf else row[0]

    async def wake_callers(self) -> int:
        return await self._writer.run(
            lambda connection: connection.execute(self._sql["wake_callers"]).rowcount
        )

    async def active_by_concurrency_key(self) -> Mapping[tuple[str, str, str], int]:
        rows = await self._readers.rows(self._sql["active_by_key"], {})
        return {(tenant, workflow, key): count for tenant, workflow, key, count in rows}

    async def oldest_of_key(self, tenant: str, workflow: str, key: str) -> RunRow | None:
        parameters = {"tenant": tenant, "workflow": workflow, "key": key, "limit": 1}
        row = await self._readers.row(self._sql["oldest_of_key"], parameters)
        return None if row is None else run_from(row)

    async def children(self, tenant: str, run_id: str) -> Sequence[RunRow]:
        rows = await self._readers.rows(self._sql["run_children"], {"tenant": tenant, "run_id": run_id})
        return [run_from(row) for row in rows]
