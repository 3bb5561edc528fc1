"""Runs, their journals, labels, definitions, workflows, and answers to repeated requests.

`schema_version` is made by the environment.
"""

from __future__ import annotations

from typing import Final

from app.stores.migrations.statements import execute

revision: Final = "1"
down_revision: Final = None

ADDED: Final = ("definitions", "idempotency", "journal", "run_labels", "runs", "workflows", "write_probe")

TABLES: Final = """\
CREATE TABLE definitions (
    hash TEXT NOT NULL,
    document BLOB NOT NULL,
    PRIMARY KEY (hash)
);
CREATE TABLE idempotency (
    tenant TEXT NOT NULL,
    "key" TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    status_code INTEGER NOT NULL,
    headers TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at DOUBLE NOT NULL,
    PRIMARY KEY (tenant, "key")
);
CREATE INDEX idempotency_oldest ON idempotency (created_at);
CREATE TABLE journal (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    payload BLOB NOT NULL,
    at DOUBLE NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
CREATE TABLE write_probe (
    id INTEGER NOT NULL,
    filler BLOB NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE runs (
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    status TEXT NOT NULL,
    definition_hash TEXT NOT NULL,
    priority INTEGER NOT NULL,
    labels TEXT NOT NULL,
    created_at DOUBLE NOT NULL,
    started_at DOUBLE,
    finished_at DOUBLE,
    parent_run_id TEXT,
    PRIMARY KEY (id),
    FOREIGN KEY(definition_hash) REFERENCES definitions (hash)
) WITHOUT ROWID;
CREATE INDEX runs_newest ON runs (tenant, created_at, id);
CREATE INDEX runs_of_workflow ON runs (tenant, workflow, created_at, id);
CREATE INDEX runs_queue ON runs (status, priority DESC, created_at, id)
    WHERE status IN ('pending', 'running', 'waiting', 'paused', 'cancelling');
CREATE TABLE workflows (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    revision INTEGER NOT NULL,
    definition_hash TEXT NOT NULL,
    description TEXT,
    labels TEXT NOT NULL,
    created_at DOUBLE NOT NULL,
    PRIMARY KEY (tenant, name, version),
    UNIQUE (tenant, name, revision),
    FOREIGN KEY(definition_hash) REFERENCES definitions (hash)
);
CREATE TABLE run_labels (
    tenant TEXT NOT NULL,
    "key" TEXT NOT NULL,
    value TEXT NOT NULL,
    created_at DOUBLE NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (tenant, "key", value, created_at, run_id),
    FOREIGN KEY(run_id) REFERENCES runs (id)
) WITHOUT ROWID"""


def upgrade() -> None:
    """Make everything."""
    execute(TABLES)
    execute("INSERT INTO write_probe (id, filler) VALUES (1, zeroblob(1))")


def downgrade() -> None:
    """Leave nothing."""
    for table in ("run_labels", "workflows", "runs", "journal", "idempotency", "definitions", "write_probe"):
        execute(f"DROP TABLE {table}")
