"""Schedules in the SQL stores: rows to and from the port's data classes, and the questions about them.

What a user set and how far the firing has come are one JSON text each; what is searched by has a column.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import orjson

from app.ports.errors import AlreadyExists, StoreError
from app.ports.runs import IdempotencyRecord
from app.ports.schedules import (
    Fire,
    FireCounts,
    FiringSchedule,
    Progress,
    ScheduleRow,
    ScheduleSpec,
)
from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.rows import Row
from app.stores.sql.views import insert, keep_answer
from app.stores.sql.writer import Writer

_COLUMNS = (
    "id",
    "tenant",
    "name",
    "spec",
    "overlap",
    "paused",
    "anchor",
    "revision",
    "generation",
    "created_at",
    "updated_at",
    "next_fire_at",
    "queued_at",
    "previous_run_id",
    "progress",
)


class SqlSchedules:
    """`app.ports.schedules.ScheduleStore`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements, *, keep_idempotency: float) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql
        self._keep = keep_idempotency

    async def create(self, schedule: ScheduleRow, idempotency: IdempotencyRecord | None = None) -> None:
        row = _parameters(schedule)

        def store(connection: Connection) -> None:
            if idempotency is not None:
                keep_answer(connection, self._sql, idempotency, self._keep)
            self._require_free_name(connection, schedule)
            key = {"this_id": schedule.id, "this_tenant": schedule.tenant}
            if connection.execute(self._sql["schedule_get"], key).fetchone():
                raise AlreadyExists(f"schedule {schedule.id!r} exists already: give a new one a new id")
            insert(connection, self._sql, "insert_schedules", [row[name] for name in _COLUMNS])

        await self._writer.run(store)

    async def get(self, tenant: str, schedule_id: str) -> ScheduleRow | None:
        key = {"this_id": schedule_id, "this_tenant": tenant}
        row = await self._readers.row(self._sql["schedule_get"], key)
        return None if row is None else _schedule(row)

    async def by_name(self, tenant: str, name: str) -> ScheduleRow | None:
        row = await self._readers.row(self._sql["schedule_by_name"], {"tenant": tenant, "name": name})
        return None if row is None else _schedule(row)

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[ScheduleRow]:
        parameters = {"tenant": tenant, "after": after or "", "limit": limit}
        return [_schedule(row) for row in await self._readers.rows(self._sql["schedule_list"], parameters)]

    async def update(self, schedule: ScheduleRow) -> bool:
        parameters = _key(schedule) | _parameters(schedule)

        def store(connection: Connection) -> bool:
            self._require_free_name(connection, schedule)
            return connection.execute(self._sql["schedule_update"], parameters).rowcount == 1

        return await self._writer.run(store)

    async def advance(self, schedules: Sequence[ScheduleRow]) -> Sequence[bool]:
        rows = [_key(schedule) | _progress_parameters(schedule) for schedule in schedules]
        text = self._sql["schedule_advance"]

        def store(connection: Connection) -> builtins.list[bool]:
            return [connection.execute(text, row).rowcount == 1 for row in rows]

        return await self._writer.run(store) if rows else []

    async def delete(self, tenant: str, schedule_id: str, *, revision: int | None = None) -> bool:
        parameters = {"this_id": schedule_id, "this_tenant": tenant, "revision": revision}
        text = self._sql["schedule_delete"]
        return await self._writer.run(lambda connection: connection.execute(text, parameters).rowcount == 1)

    async def due(self, now: float, *, limit: int) -> Sequence[FiringSchedule]:
        parameters = {"now": now, "limit": limit}
        return [_firing(row) for row in await self._readers.rows(self._sql["schedules_due"], parameters)]

    async def startable(
        self, *, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[FiringSchedule]:
        after_time, after_id = after or (-1.0, "")
        parameters = {"after_time": after_time, "after_id": after_id, "limit": limit}
        rows = await self._readers.rows(self._sql["schedules_startable"], parameters)
        return [_firing(row) for row in rows]

    async def next_fire_at(self) -> float | None:
        row = await self._readers.row(self._sql["schedules_next"], {})
        earliest: float | None = None if row is None else row[0]
        return earliest

    def _require_free_name(self, connection: Connection, schedule: ScheduleRow) -> None:
        key = {"tenant": schedule.tenant, "name": schedule.name}
        found = connection.execute(self._sql["schedule_by_name"], key).fetchone()
        if found is not None and found[0] != schedule.id:
            raise AlreadyExists(f"the schedule name {schedule.name!r} is taken: choose another one")


def _key(schedule: ScheduleRow) -> dict[str, Any]:
    return {"this_id": schedule.id, "this_tenant": schedule.tenant}


def _parameters(schedule: ScheduleRow) -> dict[str, Any]:
    """Every column by name."""
    return {
        "id": schedule.id,
        "tenant": schedule.tenant,
        "name": schedule.name,
        "spec": _json(asdict(schedule.spec), f"schedule {schedule.name!r}"),
        "overlap": schedule.spec.overlap,
        "paused": int(schedule.paused),
        "anchor": schedule.anchor,
        "revision": schedule.revision,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
        **_progress_parameters(schedule),
    }


def _progress_parameters(schedule: ScheduleRow) -> dict[str, Any]:
    progress = schedule.progress
    rest = {
        "queue": progress.queue,
        "last_run_id": progress.last_run_id,
        "fires": [asdict(fire) for fire in progress.fires],
        "counts": asdict(progress.counts),
    }
    return {
        "generation": schedule.generation,
        "next_fire_at": progress.next_fire_at,
        "queued_at": progress.queue[0] if progress.queue else None,
        "previous_run_id": progress.previous_run_id,
        "progress": _json(rest, f"the progress of schedule {schedule.name!r}"),
    }


def _json(value: dict[str, Any], what: str) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise StoreError(f"{what} cannot be stored: it must be JSON in valid Unicode") from error


def _schedule(row: Row) -> ScheduleRow:
    stored = dict(zip(_COLUMNS, row, strict=False))
    progress = orjson.loads(stored["progress"])
    return ScheduleRow(
        id=stored["id"],
        tenant=stored["tenant"],
        name=stored["name"],
        spec=ScheduleSpec(**orjson.loads(stored["spec"])),
        paused=bool(stored["paused"]),
        anchor=stored["anchor"],
        revision=stored["revision"],
        generation=stored["generation"],
        created_at=stored["created_at"],
        updated_at=stored["updated_at"],
        progress=Progress(
            next_fire_at=stored["next_fire_at"],
            queue=tuple(progress["queue"]),
            previous_run_id=stored["previous_run_id"],
            last_run_id=progress["last_run_id"],
            fires=tuple(Fire(**fire) for fire in progress["fires"]),
            counts=FireCounts(**progress["counts"]),
        ),
    )


def _firing(row: Row) -> FiringSchedule:
    return FiringSchedule(schedule=_schedule(row), previous_active=bool(row[-1]))
