"""Reads and writes about runs that wait, the runs they called, and concurrency keys."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import orjson

from app.ports.runs import RunRow, RunStatus
from app.stores.sql.connections import Readers, Statements
from app.stores.sql.rows import run_from
from app.stores.sql.writer import Writer


class ParkedRuns:
    """A part of `app.ports.runs.RunStore`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql

    async def due(self, now: float, *, limit: int) -> Sequence[RunRow]:
        rows = await self._readers.rows(self._sql["runs_due"], {"now": now, "limit": limit})
        return [run_from(row) for row in rows]

    async def next_wake(self) -> float | None:
        row = await self._readers.row(self._sql["next_wake"], {})
        return None if row is None or row[0] == math.inf else row[0]

    async def wake_parked(self) -> int:
        text, parameters = self._sql["wake_parked"], {"never": math.inf}
        return await self._writer.run(lambda connection: connection.execute(text, parameters).rowcount)

    async def wake_callers(self, *, ended_after: float = -math.inf) -> int:
        text, parameters = self._sql["wake_callers"], {"ended_after": ended_after}
        return await self._writer.run(lambda connection: connection.execute(text, parameters).rowcount)

    async def active_by_concurrency_key(self) -> Mapping[tuple[str, str, str], Sequence[str]]:
        found: dict[tuple[str, str, str], list[str]] = {}
        for tenant, workflow, key, run_id in await self._readers.rows(self._sql["active_by_key"], {}):
            found.setdefault((tenant, workflow, key), []).append(run_id)
        return found

    async def overtaken(
        self, tenant: str, workflow: str, key: str, *, keep: int, limit: int
    ) -> Sequence[RunRow]:
        parameters = {"tenant": tenant, "workflow": workflow, "key": key, "keep": keep, "limit": limit}
        return [run_from(row) for row in await self._readers.rows(self._sql["runs_overtaken"], parameters)]

    async def statuses(self, run_ids: Collection[str]) -> Mapping[str, RunStatus]:
        parameters = {"run_ids": orjson.dumps([*run_ids]).decode()}
        rows = await self._readers.rows(self._sql["run_statuses"], parameters)
        return {run_id: status for run_id, status in rows}  # noqa: C416  rows are of no fixed length

    async def children(self, tenant: str, run_id: str) -> Sequence[RunRow]:
        rows = await self._readers.rows(self._sql["run_children"], {"tenant": tenant, "run_id": run_id})
        return [run_from(row) for row in rows]
