"""Runs that wait and share keys, approvals, schedules, webhooks, cached outputs, deletion of old runs."""

from __future__ import annotations

from typing import Final

from app.stores.migrations.statements import execute

revision: Final = "2"
down_revision: Final = "1"

ADDED: Final = (
    "approvals",
    "pruned_journals",
    "runs.concurrency_key",
    "runs.wake_at",
    "schedules",
    "step_cache",
    "webhook_deliveries",
    "webhook_endpoints",
)

COLUMNS: Final = """\
ALTER TABLE runs ADD COLUMN concurrency_key TEXT;
ALTER TABLE runs ADD COLUMN wake_at DOUBLE"""

TABLES: Final = """\
CREATE TABLE approvals (
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    run_id TEXT NOT NULL,
    path TEXT NOT NULL,
    workflow TEXT NOT NULL,
    message TEXT NOT NULL,
    form TEXT,
    created_at DOUBLE NOT NULL,
    expires_at DOUBLE,
    status TEXT NOT NULL,
    action TEXT,
    answered_by TEXT,
    answered_at DOUBLE,
    PRIMARY KEY (id)
);
CREATE INDEX approvals_of_run ON approvals (run_id, created_at, id);
CREATE INDEX approvals_oldest ON approvals (tenant, status, created_at, id);
CREATE TABLE pruned_journals (
    run_id TEXT NOT NULL,
    PRIMARY KEY (run_id)
);
CREATE TABLE schedules (
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    overlap TEXT NOT NULL,
    paused INTEGER NOT NULL,
    anchor DOUBLE NOT NULL,
    revision INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created_at DOUBLE NOT NULL,
    updated_at DOUBLE NOT NULL,
    next_fire_at DOUBLE,
    queued_at DOUBLE,
    previous_run_id TEXT,
    progress TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (tenant, name)
);
CREATE INDEX schedules_due ON schedules (next_fire_at, id);
CREATE INDEX schedules_queued ON schedules (queued_at, id) WHERE queued_at IS NOT NULL;
CREATE TABLE step_cache (
    tenant TEXT NOT NULL,
    "key" TEXT NOT NULL,
    value BLOB NOT NULL,
    expires_at DOUBLE NOT NULL,
    PRIMARY KEY (tenant, "key")
);
CREATE INDEX step_cache_oldest ON step_cache (expires_at);
CREATE TABLE webhook_deliveries (
    endpoint_id TEXT NOT NULL,
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    target TEXT NOT NULL,
    run_id TEXT,
    seq INTEGER,
    event TEXT NOT NULL,
    status TEXT NOT NULL,
    tries INTEGER NOT NULL,
    round INTEGER NOT NULL,
    attempts TEXT NOT NULL,
    next_attempt_at DOUBLE,
    created_at DOUBLE NOT NULL,
    finished_at DOUBLE,
    PRIMARY KEY (endpoint_id, id)
) WITHOUT ROWID;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at, target)
    WHERE status = 'pending';
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (finished_at)
    WHERE finished_at IS NOT NULL;
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (endpoint_id, created_at);
CREATE INDEX webhook_deliveries_of_run ON webhook_deliveries (run_id, created_at, endpoint_id);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (endpoint_id, next_attempt_at)
    WHERE status = 'pending';
CREATE TABLE webhook_endpoints (
    id TEXT NOT NULL,
    tenant TEXT NOT NULL,
    run_id TEXT NOT NULL,
    url TEXT NOT NULL,
    target TEXT NOT NULL,
    events TEXT NOT NULL,
    workflow TEXT,
    labels TEXT NOT NULL,
    description TEXT,
    enabled INTEGER NOT NULL,
    disabled_reason TEXT,
    include_outputs INTEGER NOT NULL,
    secret TEXT,
    old_secret TEXT,
    old_secret_until DOUBLE,
    revision INTEGER NOT NULL,
    created_at DOUBLE NOT NULL,
    updated_at DOUBLE NOT NULL,
    PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE INDEX webhook_endpoints_of ON webhook_endpoints (tenant, run_id, id);
CREATE INDEX webhook_endpoints_of_runs ON webhook_endpoints (created_at) WHERE run_id > ''"""

INDEXES: Final = """\
CREATE INDEX runs_due ON runs (wake_at, id)
    WHERE wake_at IS NOT NULL AND status IN ('waiting', 'paused', 'cancelling');
CREATE INDEX runs_finished ON runs (finished_at, id)
    WHERE status IN ('completed', 'failed', 'cancelled', 'timed_out');
CREATE INDEX runs_of_definition ON runs (definition_hash);
CREATE INDEX runs_of_key ON runs (tenant, workflow, concurrency_key, started_at, id)
    WHERE concurrency_key IS NOT NULL AND status IN ('running', 'waiting', 'paused', 'cancelling');
CREATE INDEX runs_of_parent ON runs (parent_run_id, created_at, id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX workflows_of_definition ON workflows (definition_hash);
CREATE INDEX run_labels_of_run ON run_labels (run_id)"""

TAKEN_BACK: Final = """\
DROP INDEX runs_due;
DROP INDEX runs_finished;
DROP INDEX runs_of_definition;
DROP INDEX runs_of_key;
DROP INDEX runs_of_parent;
DROP INDEX workflows_of_definition;
DROP INDEX run_labels_of_run;
DROP TABLE approvals;
DROP TABLE pruned_journals;
DROP TABLE schedules;
DROP TABLE step_cache;
DROP TABLE webhook_deliveries;
DROP TABLE webhook_endpoints;
ALTER TABLE runs DROP COLUMN wake_at;
ALTER TABLE runs DROP COLUMN concurrency_key"""


def upgrade() -> None:
    """Columns come first: indexes are on them."""
    execute(COLUMNS)
    execute(TABLES)
    execute(INDEXES)


def downgrade() -> None:
    """Indexes go first: a column that one is on cannot."""
    execute(TAKEN_BACK)
