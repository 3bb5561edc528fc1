"""The approvals of the SQL stores. They are written with the events behind them, by the journal."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Final

import orjson

from app.ports.runs import APPROVAL_STATUSES, ApprovalRow
from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.rows import Row, approval_from

FROM_THE_FIRST: Final = (-math.inf, "")


class SqlApprovals:
    """`app.ports.runs.ApprovalStore`."""

    def __init__(self, readers: Readers, sql: Statements) -> None:
        self._readers = readers
        self._sql = sql

    async def get(self, tenant: str, approval_id: str) -> ApprovalRow | None:
        parameters = {"tenant": tenant, "id": approval_id}
        row = await self._readers.row(self._sql["approval_get"], parameters)
        return None if row is None else approval_from(row)

    async def list(
        self,
        tenant: str,
        *,
        statuses: frozenset[str],
        run_id: str | None = None,
        limit: int,
        after: tuple[float, str] | None = None,
    ) -> Sequence[ApprovalRow]:
        wanted = sorted(statuses or APPROVAL_STATUSES)
        after_time, after_id = after or FROM_THE_FIRST
        page = {"tenant": tenant, "after_time": after_time, "after_id": after_id, "limit": limit}
        if run_id is not None:
            page |= {"run_id": run_id, "statuses": orjson.dumps(wanted).decode()}
            rows = await self._readers.rows(self._sql["approvals_of_run"], page)
            return [approval_from(row) for row in rows]
        found = await self._readers.run(lambda connection: self._by_status(connection, wanted, page))
        found.sort(key=lambda approval: (approval.created_at, approval.id))
        return found[:limit]

    def _by_status(
        self, connection: Connection, statuses: builtins.list[str], page: dict[str, object]
    ) -> builtins.list[ApprovalRow]:
        # Status by status, each in the order of the index and cut there; one snapshot for all of them.
        connection.execute("BEGIN")
        rows: builtins.list[Row] = []
        for status in statuses:
            rows += connection.execute(
                self._sql["approvals_by_status"], {**page, "status": status}
            ).fetchall()
        connection.commit()
        return [approval_from(row) for row in rows]
