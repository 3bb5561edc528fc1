"""The tables of the journal store, for SQLite and PostgreSQL alike.

Times are epoch seconds as doubles, JSON is text. Tables that are read by their key only and keep small
rows are clustered on it in SQLite (`WITHOUT ROWID`). The journal has no foreign key: it is the hottest
table, and its runs are created in the same transaction as their first events.

Statements belong to `queries`. A change here needs a new `SCHEMA_VERSION` and a revision for each database in
`app.stores.migrations.versions`; a test compares what they lead to with what is written here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

UNFINISHED: Final = ("pending", "running", "waiting", "paused", "cancelling")
"""Every status that is not terminal, spelled out because partial indexes repeat it literally."""
FINISHED: Final = ("completed", "failed", "cancelled", "timed_out")
"""Every status that is."""
WAKEABLE: Final = ("waiting", "paused", "cancelling")
"""The statuses in which a run may be parked with a time to be taken up again."""

metadata = MetaData()

journal = Table(
    "journal",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("at", Double, nullable=False),
    sqlite_with_rowid=False,
)

definitions = Table(
    "definitions",
    metadata,
    Column("hash", Text, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("definition_hash", Text, ForeignKey("definitions.hash"), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("labels", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("parent_run_id", Text),
    Column("concurrency_key", Text),
    Column("wake_at", Double),
    sqlite_with_rowid=False,
)

run_columns: Final = [column for column in runs.c if column is not runs.c.wake_at]
"""What the port knows of a run; when it is to be taken up again is the store's."""


def one_of(status: ColumnElement[str], statuses: tuple[str, ...]) -> ColumnElement[bool]:
    """Whether it is one of them, in the words that a partial index needs to be recognised."""
    return status.in_([literal_column(f"'{name}'") for name in statuses])


unfinished = one_of(runs.c.status, UNFINISHED)
finished = one_of(runs.c.status, FINISHED)
wakeable = runs.c.wake_at.is_not(None) & one_of(runs.c.status, WAKEABLE)
holds_a_key = runs.c.concurrency_key.is_not(None) & unfinished
has_parent = runs.c.parent_run_id.is_not(None)

Index("runs_newest", runs.c.tenant, runs.c.created_at, runs.c.id)
Index("runs_of_workflow", runs.c.tenant, runs.c.workflow, runs.c.created_at, runs.c.id)
Index(
    "runs_queue",
    runs.c.status,
    runs.c.priority.desc(),
    runs.c.created_at,
    runs.c.id,
    sqlite_where=unfinished,
    postgresql_where=unfinished,
)
Index("runs_of_definition", runs.c.definition_hash)
Index("runs_finished", runs.c.finished_at, runs.c.id, sqlite_where=finished, postgresql_where=finished)
Index("runs_due", runs.c.wake_at, runs.c.id, sqlite_where=wakeable, postgresql_where=wakeable)
Index(
    "runs_with_key",
    runs.c.tenant,
    runs.c.workflow,
    runs.c.concurrency_key,
    runs.c.created_at,
    runs.c.id,
    sqlite_where=holds_a_key,
    postgresql_where=holds_a_key,
)
Index(
    "runs_of_parent",
    runs.c.parent_run_id,
    runs.c.created_at,
    runs.c.id,
    sqlite_where=has_parent,
    postgresql_where=has_parent,
)

run_labels = Table(
    "run_labels",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("created_at", Double, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id"), primary_key=True),
    sqlite_with_rowid=False,
)

Index("run_labels_of_run", run_labels.c.run_id)

workflows = Table(
    "workflows",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("definition_hash", Text, ForeignKey("definitions.hash"), nullable=False),
    Column("description", Text),
    Column("labels", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("tenant", "name", "revision"),
)

Index("workflows_of_definition", workflows.c.definition_hash)

idempotency = Table(
    "idempotency",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", Double, nullable=False),
)

Index("idempotency_oldest", idempotency.c.created_at)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("overlap", Text, nullable=False),
    Column("paused", Integer, nullable=False),
    Column("anchor", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("next_fire_at", Double),
    Column("queued_at", Double),
    Column("previous_run_id", Text),
    Column("progress", Text, nullable=False),
    UniqueConstraint("tenant", "name"),
)

Index("schedules_due", schedules.c.next_fire_at, schedules.c.id)
Index(
    "schedules_queued",
    schedules.c.queued_at,
    schedules.c.id,
    sqlite_where=schedules.c.queued_at.is_not(None),
    postgresql_where=schedules.c.queued_at.is_not(None),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    # Empty for an endpoint that is bound to no run, so that one index finds both kinds.
    Column("run_id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("workflow", Text),
    Column("labels", Text, nullable=False),
    Column("description", Text),
    Column("enabled", Integer, nullable=False),
    Column("disabled_reason", Text),
    Column("include_outputs", Integer, nullable=False),
    Column("secret", Text),
    Column("old_secret", Text),
    Column("old_secret_until", Double),
    Column("revision", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    sqlite_with_rowid=False,
)

of_a_run = webhook_endpoints.c.run_id > literal_column("''")

Index("webhook_endpoints_of", webhook_endpoints.c.tenant, webhook_endpoints.c.run_id, webhook_endpoints.c.id)
Index(
    "webhook_endpoints_of_runs",
    webhook_endpoints.c.created_at,
    sqlite_where=of_a_run,
    postgresql_where=of_a_run,
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("endpoint_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("run_id", Text),
    Column("seq", Integer),
    Column("event", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempts", Text, nullable=False),
    Column("next_attempt_at", Double),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    sqlite_with_rowid=False,
)

pending = webhook_deliveries.c.status == literal_column("'pending'")
ended = webhook_deliveries.c.finished_at.is_not(None)

Index(
    "webhook_deliveries_of_target",
    webhook_deliveries.c.target,
    webhook_deliveries.c.next_attempt_at,
    sqlite_where=pending,
    postgresql_where=pending,
)
Index(
    "webhook_deliveries_pending",
    webhook_deliveries.c.endpoint_id,
    webhook_deliveries.c.next_attempt_at,
    sqlite_where=pending,
    postgresql_where=pending,
)
Index("webhook_deliveries_newest", webhook_deliveries.c.endpoint_id, webhook_deliveries.c.created_at)
Index(
    "webhook_deliveries_of_run",
    webhook_deliveries.c.run_id,
    webhook_deliveries.c.created_at,
    webhook_deliveries.c.endpoint_id,
)
Index(
    "webhook_deliveries_ended",
    webhook_deliveries.c.finished_at,
    sqlite_where=ended,
    postgresql_where=ended,
)

schema_version = Table(
    "schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False)
)

write_probe = Table(
    "write_probe",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("filler", LargeBinary, nullable=False),
)
