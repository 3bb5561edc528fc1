"""The tables of the journal store, for SQLite and PostgreSQL alike.

Times are epoch seconds as doubles, JSON is text. Tables that are read by their key only and keep small
rows are clustered on it in SQLite (`WITHOUT ROWID`). The journal has no foreign key: it is the hottest
table, and its runs are created in the same transaction as their first events.

Statements belong to `queries`. A change here needs a new `SCHEMA_VERSION` and a migration.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
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
    sqlite_with_rowid=False,
)

unfinished = runs.c.status.in_([literal_column(f"'{status}'") for status in UNFINISHED])

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

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

write_probe = Table(
    "write_probe",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("filler", LargeBinary, nullable=False),
)
