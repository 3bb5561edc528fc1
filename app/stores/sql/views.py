"""The views of the SQL stores: the ports' questions as statements for readers and units for the writer."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from app.ports.errors import AlreadyExists
from app.ports.runs import (
    Definition,
    IdempotencyRecord,
    JournalRow,
    RunFilter,
    RunRow,
    StatusChange,
    WorkflowRow,
)
from app.ports.webhooks import Endpoint
from app.stores.expiry import has_expired
from app.stores.shape import check_append, check_create, check_create_many
from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.many import create_all, pages_of, units_of
from app.stores.sql.parked import ParkedRuns
from app.stores.sql.pruning import PRUNE_PAGES, Pruner
from app.stores.sql.rows import (
    Row,
    event_from,
    idempotency_from,
    idempotency_parameters,
    run_from,
    workflow_from,
    workflow_parameters,
)
from app.stores.sql.units import Append, Create, key_exists
from app.stores.sql.writer import Writer

UNFINISHED: Final = frozenset({"pending", "running", "waiting", "paused", "cancelling"})
"""The statuses that the partial index of the queue covers."""
NO_LIMIT: Final = 2**62
MAX_REVISION: Final = 2**62
FIRST_ID: Final = ""
NEVER: Final = (math.inf, FIRST_ID)


def _array(items: Any) -> str:
    return orjson.dumps(items).decode()


class SqlJournal:
    """`app.ports.runs.Journal`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements) -> None:
        self._readers = readers
        self._writer = writer
        self._read = sql["journal_read"]

    async def append(self, rows: Sequence[JournalRow], change: StatusChange | None = None) -> None:
        check_append(rows, change)
        if rows:
            await self._writer.store(Append(rows, change))

    async def read(
        self, run_id: str, *, after: int = 0, limit: int | None = None, max_bytes: int | None = None
    ) -> Sequence[JournalRow]:
        parameters = {"run_id": run_id, "after": after, "limit": NO_LIMIT if limit is None else limit}
        if max_bytes is None:
            return [event_from(run_id, row) for row in await self._readers.rows(self._read, parameters)]
        most = max_bytes

        def page(connection: Connection) -> list[JournalRow]:
            found = connection.execute(self._read, parameters)
            events: list[JournalRow] = []
            size = 0
            while size <= most and (row := found.fetchone()) is not None:
                events.append(event_from(run_id, row))
                size += len(events[-1].payload)
            return events

        return await self._readers.run(page)


class SqlRuns(ParkedRuns):
    """`app.ports.runs.RunStore`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements, *, keep_idempotency: float) -> None:
        super().__init__(readers, writer, sql)
        self._pruner = Pruner(sql)
        self._keep = keep_idempotency

    async def create(
        self,
        run: RunRow,
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
        *,
        change: StatusChange | None = None,
        webhook: Endpoint | None = None,
    ) -> None:
        check_create(run, events, change)
        await self._writer.store(Create(run, events, definition, idempotency, change, webhook))

    async def create_many(
        self,
        runs: Sequence[RunRow],
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
    ) -> None:
        check_create_many(runs, events)
        units = units_of(runs, events, definition, idempotency)
        await self._writer.run(
            lambda connection: create_all(connection, self._sql, units, self._keep), pages=pages_of(units)
        )

    async def get(self, tenant: str, run_id: str) -> RunRow | None:
        row = await self._readers.row(self._sql["run_get"], {"tenant": tenant, "id": run_id})
        return None if row is None else run_from(row)

    async def list(
        self, tenant: str, filter: RunFilter, *, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[RunRow]:
        bounds = (before, None if filter.created_before is None else (filter.created_before, FIRST_ID))
        before_time, before_id = min((bound for bound in bounds if bound is not None), default=NEVER)
        name = "runs_list"
        parameters: dict[str, Any] = {
            "tenant": tenant,
            "before_time": before_time,
            "before_id": before_id,
            "created_after": -math.inf if filter.created_after is None else filter.created_after,
            "statuses": _array(sorted(filter.statuses)) if filter.statuses else None,
            "limit": limit,
        }
        if filter.workflow is not None:
            name += "_workflow"
            parameters["workflow"] = filter.workflow
        if filter.labels:
            name += "_label"
            (key, value), *more = sorted(filter.labels.items())
            parameters |= {"label_key": key, "label_value": value, "more_labels": _array(more)}
        return [run_from(row) for row in await self._readers.rows(self._sql[name], parameters)]

    async def unfinished(
        self, *, limit: int, statuses: frozenset[str], exclude: frozenset[str] = frozenset()
    ) -> Sequence[RunRow]:
        without = _array(sorted(exclude))
        texts = {status: self._by_status(status, "runs_unfinished", "runs_by_status") for status in statuses}

        def query(connection: Connection) -> builtins.list[Row]:
            # Status by status, each in the order of the index and cut there; one snapshot for all of them.
            connection.execute("BEGIN")
            found: builtins.list[Row] = []
            for status, text in texts.items():
                parameters = {"status": status, "exclude": without, "limit": limit}
                found += connection.execute(text, parameters).fetchall()
            connection.commit()
            return found

        rows = [run_from(row) for row in await self._readers.run(query)]
        rows.sort(key=lambda run: (-run.priority, run.created_at, run.id))
        return rows[:limit]

    async def count(self, statuses: frozenset[str]) -> int:
        texts = {
            status: self._by_status(status, "count_unfinished", "count_by_status") for status in statuses
        }

        def query(connection: Connection) -> int:
            connection.execute("BEGIN")
            counts = [connection.execute(text, {"status": name}).fetchall() for name, text in texts.items()]
            connection.commit()
            return sum(rows[0][0] for rows in counts)

        return await self._readers.run(query)

    async def active_of_workflow(self, tenant: str, workflow: str) -> int:
        parameters = {"tenant": tenant, "workflow": workflow}
        row = await self._readers.row(self._sql["active_of_workflow"], parameters)
        return 0 if row is None else int(row[0])

    async def definition(self, hash: str) -> Definition | None:
        row = await self._readers.row(self._sql["definition_get"], {"hash": hash})
        return None if row is None else Definition(hash=hash, document=row[0])

    async def prune(self, finished_before: float, *, limit: int) -> int:
        return await self._writer.run(
            lambda connection: self._pruner.prune(connection, finished_before, limit),
            pages=PRUNE_PAGES,
            deletes=True,
        )

    def _by_status(self, status: str, indexed: str, general: str) -> str:
        return self._sql[indexed if status in UNFINISHED else general]


class SqlWorkflows:
    """`app.ports.runs.WorkflowStore`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements, *, keep_idempotency: float) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql
        self._keep = keep_idempotency

    async def register(
        self, workflow: WorkflowRow, definition: Definition, idempotency: IdempotencyRecord | None = None
    ) -> WorkflowRow:
        sql = self._sql

        def store(connection: Connection) -> WorkflowRow:
            if idempotency is not None:
                keep_answer(connection, sql, idempotency, self._keep)
            key = {"tenant": workflow.tenant, "name": workflow.name}
            version = {**key, "version": workflow.version}
            if connection.execute(sql["workflow_version"], version).fetchone():
                raise version_exists(workflow)
            newest = {**key, "before_revision": MAX_REVISION, "limit": 1}
            found = connection.execute(sql["workflow_versions"], newest).fetchone()
            revision = 1 if found is None else workflow_from(found).revision + 1
            insert(connection, sql, "insert_definitions", (definition.hash, definition.document))
            insert(connection, sql, "insert_workflows", workflow_parameters(workflow, revision))
            return replace(workflow, revision=revision)

        return await self._writer.run(store)

    async def get(self, tenant: str, name: str, version: str | None = None) -> WorkflowRow | None:
        if version is None:
            rows = await self.versions(tenant, name, limit=1)
            return rows[0] if rows else None
        parameters = {"tenant": tenant, "name": name, "version": version}
        row = await self._readers.row(self._sql["workflow_version"], parameters)
        return None if row is None else workflow_from(row)

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[WorkflowRow]:
        parameters = {"tenant": tenant, "after": after or "", "limit": limit}
        return [
            workflow_from(row) for row in await self._readers.rows(self._sql["workflow_list"], parameters)
        ]

    async def versions(
        self, tenant: str, name: str, *, limit: int, before_revision: int | None = None
    ) -> Sequence[WorkflowRow]:
        parameters = {
            "tenant": tenant,
            "name": name,
            "limit": limit,
            "before_revision": MAX_REVISION if before_revision is None else before_revision,
        }
        rows = await self._readers.rows(self._sql["workflow_versions"], parameters)
        return [workflow_from(row) for row in rows]

    async def delete(self, tenant: str, name: str) -> int:
        parameters = {"tenant": tenant, "name": name}
        return await self._writer.run(
            lambda connection: connection.execute(self._sql["workflow_delete"], parameters).rowcount
        )


class SqlIdempotency:
    """`app.ports.runs.IdempotencyStore`."""

    def __init__(
        self,
        readers: Readers,
        writer: Writer,
        sql: Statements,
        *,
        keep_idempotency: float,
        now: Callable[[], float],
    ) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql
        self._keep = keep_idempotency
        self._now = now

    async def find(self, tenant: str, key: str) -> IdempotencyRecord | None:
        row = await self._readers.row(self._sql["idempotency_find"], {"tenant": tenant, "key": key})
        if row is None:
            return None
        record = idempotency_from(row)
        return None if has_expired(record.created_at, self._now(), self._keep) else record

    async def save(self, record: IdempotencyRecord) -> None:
        await self._writer.run(lambda connection: keep_answer(connection, self._sql, record, self._keep))

    async def prune(self, older_than: float) -> int:
        parameters = {"older_than": older_than}
        return await self._writer.run(
            lambda connection: connection.execute(self._sql["idempotency_prune"], parameters).rowcount
        )


def insert(connection: Connection, sql: Statements, name: str, parameters: Row) -> None:
    """Insert one row."""
    for text, values in sql.bulk[name].statements([*parameters]):
        connection.execute(text, values)


def keep_answer(connection: Connection, sql: Statements, record: IdempotencyRecord, keep: float) -> None:
    """Store an answer, in place of one that has expired. Raises `AlreadyExists`."""
    key = {"tenant": record.tenant, "key": record.key}
    found = connection.execute(sql["idempotency_find"], key).fetchone()
    if found is not None:
        if not has_expired(idempotency_from(found).created_at, record.created_at, keep):
            raise key_exists(record.key)
        connection.execute(sql["idempotency_delete"], key)
    insert(connection, sql, "insert_idempotency", idempotency_parameters(record))


def version_exists(workflow: WorkflowRow) -> AlreadyExists:
    """The refusal of a second definition under the same name and version."""
    return AlreadyExists(
        f"version {workflow.version!r} of workflow {workflow.name!r} is registered: register another version"
    )
