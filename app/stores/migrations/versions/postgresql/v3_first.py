"""Everything: the first version that there was for PostgreSQL.

`schema_version` is made by the environment.
"""

from __future__ import annotations

from typing import Final

from app.stores.migrations.statements import execute, execute_whole

revision: Final = "3"
down_revision: Final = None

ADDED: Final = (
    "approvals",
    "definitions",
    "idempotency",
    "inbox",
    "index_contracts",
    "journal",
    "pruned_journals",
    "run_labels",
    "runs",
    "schedules",
    "step_cache",
    "webhook_deliveries",
    "webhook_endpoints",
    "workflows",
    "write_probe",
)

TABLES: Final = """\
CREATE TABLE approvals (
    id TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL,
    workflow TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    form TEXT COLLATE "C",
    created_at DOUBLE PRECISION NOT NULL,
    expires_at DOUBLE PRECISION,
    status TEXT COLLATE "C" NOT NULL,
    action TEXT COLLATE "C",
    answered_by TEXT COLLATE "C",
    answered_at DOUBLE PRECISION,
    PRIMARY KEY (id)
);
CREATE INDEX approvals_of_run ON approvals (run_id, created_at, id);
CREATE INDEX approvals_oldest ON approvals (tenant, status, created_at, id);
CREATE TABLE definitions (
    hash TEXT COLLATE "C" NOT NULL,
    document BYTEA NOT NULL,
    PRIMARY KEY (hash)
);
CREATE TABLE idempotency (
    tenant TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    status_code BIGINT NOT NULL,
    headers TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX idempotency_oldest ON idempotency (created_at);
CREATE TABLE inbox (
    id TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    payload BYTEA NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    outcome TEXT COLLATE "C",
    PRIMARY KEY (id)
);
CREATE INDEX inbox_oldest ON inbox (at);
CREATE INDEX inbox_unsettled ON inbox (run_id) WHERE outcome IS NULL;
CREATE INDEX inbox_unsettled_oldest ON inbox (at) WHERE outcome IS NULL;
CREATE TABLE index_contracts (
    database_name TEXT COLLATE "C" NOT NULL,
    index_name TEXT COLLATE "C" NOT NULL,
    model TEXT COLLATE "C",
    dimensions BIGINT NOT NULL,
    metric TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (database_name, index_name)
);
CREATE TABLE journal (
    run_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    payload BYTEA NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (run_id, seq)
);
CREATE TABLE pruned_journals (
    run_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (run_id)
);
CREATE TABLE schedules (
    id TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    spec TEXT COLLATE "C" NOT NULL,
    overlap TEXT COLLATE "C" NOT NULL,
    paused BIGINT NOT NULL,
    anchor DOUBLE PRECISION NOT NULL,
    revision BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    next_fire_at DOUBLE PRECISION,
    queued_at DOUBLE PRECISION,
    previous_run_id TEXT COLLATE "C",
    progress TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (tenant, name)
);
CREATE INDEX schedules_due ON schedules (next_fire_at, id);
CREATE INDEX schedules_queued ON schedules (queued_at, id) WHERE queued_at IS NOT NULL;
CREATE TABLE step_cache (
    tenant TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant, key)
);
CREATE INDEX step_cache_oldest ON step_cache (expires_at);
CREATE TABLE webhook_deliveries (
    endpoint_id TEXT COLLATE "C" NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C",
    seq BIGINT,
    event TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    tries BIGINT NOT NULL,
    round BIGINT NOT NULL,
    attempts TEXT COLLATE "C" NOT NULL,
    next_attempt_at DOUBLE PRECISION,
    created_at DOUBLE PRECISION NOT NULL,
    finished_at DOUBLE PRECISION,
    PRIMARY KEY (endpoint_id, id)
);
CREATE INDEX webhook_deliveries_ended ON webhook_deliveries (finished_at)
    WHERE finished_at IS NOT NULL;
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (endpoint_id, created_at);
CREATE INDEX webhook_deliveries_of_run ON webhook_deliveries (run_id, created_at, endpoint_id);
CREATE INDEX webhook_deliveries_of_target ON webhook_deliveries (target, next_attempt_at)
    WHERE status = 'pending';
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (endpoint_id, next_attempt_at)
    WHERE status = 'pending';
CREATE TABLE webhook_endpoints (
    id TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    url TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    events TEXT COLLATE "C" NOT NULL,
    workflow TEXT COLLATE "C",
    labels TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C",
    enabled BIGINT NOT NULL,
    disabled_reason TEXT COLLATE "C",
    include_outputs BIGINT NOT NULL,
    secret TEXT COLLATE "C",
    old_secret TEXT COLLATE "C",
    old_secret_until DOUBLE PRECISION,
    revision BIGINT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    updated_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX webhook_endpoints_of ON webhook_endpoints (tenant, run_id, id);
CREATE INDEX webhook_endpoints_of_runs ON webhook_endpoints (created_at) WHERE run_id > '';
CREATE TABLE write_probe (
    id BIGINT NOT NULL,
    filler BYTEA NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE runs (
    id TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL,
    workflow TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    definition_hash TEXT COLLATE "C" NOT NULL,
    priority BIGINT NOT NULL,
    labels TEXT COLLATE "C" NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    started_at DOUBLE PRECISION,
    finished_at DOUBLE PRECISION,
    parent_run_id TEXT COLLATE "C",
    concurrency_key TEXT COLLATE "C",
    wake_at DOUBLE PRECISION,
    PRIMARY KEY (id),
    FOREIGN KEY(definition_hash) REFERENCES definitions (hash)
);
CREATE INDEX runs_due ON runs (wake_at, id)
    WHERE wake_at IS NOT NULL AND status IN ('waiting', 'paused', 'cancelling');
CREATE INDEX runs_finished ON runs (finished_at, id)
    WHERE status IN ('completed', 'failed', 'cancelled', 'timed_out');
CREATE INDEX runs_newest ON runs (tenant, created_at, id);
CREATE INDEX runs_of_definition ON runs (definition_hash);
CREATE INDEX runs_of_parent ON runs (parent_run_id, created_at, id) WHERE parent_run_id IS NOT NULL;
CREATE INDEX runs_of_workflow ON runs (tenant, workflow, created_at, id);
CREATE INDEX runs_queue ON runs (status, priority DESC, created_at, id)
    WHERE status IN ('pending', 'running', 'waiting', 'paused', 'cancelling');
CREATE INDEX runs_with_key ON runs (tenant, workflow, concurrency_key, created_at, id)
    WHERE concurrency_key IS NOT NULL
    AND status IN ('pending', 'running', 'waiting', 'paused', 'cancelling');
CREATE TABLE workflows (
    tenant TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    version TEXT COLLATE "C" NOT NULL,
    revision BIGINT NOT NULL,
    definition_hash TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C",
    labels TEXT COLLATE "C" NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (tenant, name, version),
    UNIQUE (tenant, name, revision),
    FOREIGN KEY(definition_hash) REFERENCES definitions (hash)
);
CREATE INDEX workflows_of_definition ON workflows (definition_hash);
CREATE TABLE run_labels (
    tenant TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, key, value, created_at, run_id),
    FOREIGN KEY(run_id) REFERENCES runs (id)
);
CREATE INDEX run_labels_of_run ON run_labels (run_id)"""

FUNCTION: Final = """\
CREATE FUNCTION orchestrator_work() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orchestrator_work', '');
    RETURN NULL;
END
$$"""

TRIGGERS: Final = """\
CREATE TRIGGER runs_wait AFTER INSERT ON runs
    FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION orchestrator_work();
CREATE TRIGGER inbox_filled AFTER INSERT ON inbox
    FOR EACH STATEMENT EXECUTE FUNCTION orchestrator_work()"""

TAKEN_BACK: Final = """\
DROP TABLE run_labels;
DROP TABLE workflows;
DROP TABLE runs;
DROP TABLE approvals;
DROP TABLE idempotency;
DROP TABLE inbox;
DROP TABLE index_contracts;
DROP TABLE journal;
DROP TABLE pruned_journals;
DROP TABLE schedules;
DROP TABLE step_cache;
DROP TABLE webhook_deliveries;
DROP TABLE webhook_endpoints;
DROP TABLE write_probe;
DROP TABLE definitions;
DROP FUNCTION orchestrator_work"""


def upgrade() -> None:
    """Make everything."""
    execute(TABLES)
    execute("INSERT INTO write_probe (id, filler) VALUES (1, decode('00', 'hex'))")
    execute_whole(FUNCTION)
    execute(TRIGGERS)


def downgrade() -> None:
    """Leave nothing; triggers go with their tables."""
    execute(TAKEN_BACK)
