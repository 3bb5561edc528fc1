"""What is asked of runs from outside, what vector indexes hold, and faster ways to what is due."""

from __future__ import annotations

from typing import Final

from app.stores.migrations.statements import execute

revision: Final = "3"
down_revision: Final = "2"

ADDED: Final = ("inbox", "index_contracts")

TABLES: Final = """\
CREATE TABLE inbox (
    id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    type TEXT NOT NULL,
    payload BLOB NOT NULL,
    at DOUBLE NOT NULL,
    outcome TEXT,
    PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE INDEX inbox_oldest ON inbox (at);
CREATE INDEX inbox_unsettled ON inbox (run_id) WHERE outcome IS NULL;
CREATE INDEX inbox_unsettled_oldest ON inbox (at) WHERE outcome IS NULL;
CREATE TABLE index_contracts (
    database_name TEXT NOT NULL,
    index_name TEXT NOT NULL,
    model TEXT,
    dimensions INTEGER NOT NULL,
    metric TEXT NOT NULL,
    PRIMARY KEY (database_name, index_name)
) WITHOUT ROWID"""

INDEXES: Final = """\
DROP INDEX webhook_deliveries_due;
DROP INDEX runs_of_key;
CREATE INDEX webhook_deliveries_of_target ON webhook_deliveries (target, next_attempt_at)
    WHERE status = 'pending';
CREATE INDEX runs_with_key ON runs (tenant, workflow, concurrency_key, created_at, id)
    WHERE concurrency_key IS NOT NULL
    AND status IN ('pending', 'running', 'waiting', 'paused', 'cancelling')"""

TAKEN_BACK: Final = """\
DROP TABLE inbox;
DROP TABLE index_contracts;
DROP INDEX webhook_deliveries_of_target;
DROP INDEX runs_with_key;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at, target)
    WHERE status = 'pending';
CREATE INDEX runs_of_key ON runs (tenant, workflow, concurrency_key, started_at, id)
    WHERE concurrency_key IS NOT NULL AND status IN ('running', 'waiting', 'paused', 'cancelling')"""


def upgrade() -> None:
    """Two tables; two indexes give way to better ones."""
    execute(TABLES)
    execute(INDEXES)


def downgrade() -> None:
    """The same the other way round."""
    execute(TAKEN_BACK)
