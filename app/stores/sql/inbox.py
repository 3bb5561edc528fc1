"""The inbox of the SQL stores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import orjson

from app.ports.errors import AlreadyExists
from app.ports.inbox import ControlOutcome, ControlRow
from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.rows import Row
from app.stores.sql.writer import Writer


class SqlInbox:
    """`app.ports.inbox.Inbox`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql

    async def put(self, control: ControlRow) -> None:
        def store(connection: Connection) -> None:
            if connection.execute(self._sql["control_get"], {"id": control.id}).fetchone():
                raise AlreadyExists(f"control {control.id!r} exists already: give a new one a new id")
            connection.execute(self._sql["control_insert"], _parameters(control))

        await self._writer.run(store)

    async def get(self, control_id: str) -> ControlRow | None:
        row = await self._readers.row(self._sql["control_get"], {"id": control_id})
        return None if row is None else _control_from(row)

    async def unsettled(self, run_ids: Collection[str]) -> Sequence[ControlRow]:
        if not run_ids:
            return ()
        parameters = {"run_ids": orjson.dumps([*run_ids]).decode()}
        rows = await self._readers.rows(self._sql["controls_unsettled"], parameters)
        return sorted(map(_control_from, rows), key=lambda control: (control.at, control.id))

    async def neglected(self, before: float, *, limit: int) -> Sequence[str]:
        parameters = {"before": before, "limit": limit}
        rows = await self._readers.rows(self._sql["controls_neglected"], parameters)
        return [*dict.fromkeys(row[0] for row in rows)]

    async def settle(self, control_id: str, outcome: ControlOutcome) -> None:
        await self._execute("control_settle", {"control_id": control_id, "settled_as": outcome})

    async def prune(self, older_than: float) -> int:
        return await self._execute("controls_prune", {"older_than": older_than})

    async def _execute(self, name: str, parameters: dict[str, Any]) -> int:
        return await self._writer.run(
            lambda connection: connection.execute(self._sql[name], parameters).rowcount
        )


def _parameters(control: ControlRow) -> dict[str, Any]:
    return {
        "id": control.id,
        "run_id": control.run_id,
        "type": control.type,
        "payload": control.payload,
        "at": control.at,
        "outcome": control.outcome,
    }


def _control_from(row: Row) -> ControlRow:
    return ControlRow(id=row[0], run_id=row[1], type=row[2], payload=row[3], at=row[4], outcome=row[5])
