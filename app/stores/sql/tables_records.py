"""Tables of approvals, the step cache, index contracts, the inbox, and of journals that are being deleted."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, Integer, LargeBinary, Table, Text

from app.stores.sql.tables import metadata

approvals = Table(
    "approvals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("run_id", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("workflow", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("form", Text),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("status", Text, nullable=False),
    Column("action", Text),
    Column("answered_by", Text),
    Column("answered_at", Double),
)

Index("approvals_oldest", approvals.c.tenant, approvals.c.status, approvals.c.created_at, approvals.c.id)
Index("approvals_of_run", approvals.c.run_id, approvals.c.created_at, approvals.c.id)

step_cache = Table(
    "step_cache",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("expires_at", Double, nullable=False),
)

Index("step_cache_oldest", step_cache.c.expires_at)

index_contracts = Table(
    "index_contracts",
    metadata,
    Column("database_name", Text, primary_key=True),
    Column("index_name", Text, primary_key=True),
    Column("model", Text),
    Column("dimensions", Integer, nullable=False),
    Column("metric", Text, nullable=False),
    sqlite_with_rowid=False,
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("run_id", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("at", Double, nullable=False),
    Column("outcome", Text),
    sqlite_with_rowid=False,
)

unsettled = inbox.c.outcome.is_(None)

Index("inbox_unsettled", inbox.c.run_id, sqlite_where=unsettled, postgresql_where=unsettled)
Index("inbox_unsettled_oldest", inbox.c.at, sqlite_where=unsettled, postgresql_where=unsettled)
Index("inbox_oldest", inbox.c.at)

pruned_journals = Table("pruned_journals", metadata, Column("run_id", Text, primary_key=True))
"""Runs that are gone while a rest of their journal is still to be deleted."""
