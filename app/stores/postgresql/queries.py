"""The statements that only PostgreSQL needs: who wrote last, what became of a transaction, waking others."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ClauseElement, select, text

from app.stores.sql.queries import rows_of
from app.stores.sql.tables import journal


def _events() -> ClauseElement:
    """The events with these numbers, as far as they are there."""
    new: Any = rows_of(journal, "run_id", "seq")
    return select(journal).join_from(
        new, journal, (journal.c.run_id == new.c.run_id) & (journal.c.seq == new.c.seq)
    )


TRANSACTIONS: Final[dict[str, ClauseElement]] = {
    "transaction_id": text("SELECT CAST(pg_current_xact_id_if_assigned() AS TEXT)"),
    "transaction_status": text("SELECT pg_xact_status(CAST(CAST(:transaction AS TEXT) AS XID8))"),
    "executor_lock": text("SELECT pg_try_advisory_lock(CAST(:lock AS INTEGER), hashtext(current_schema()))"),
    "schema_lock": text("SELECT pg_advisory_xact_lock(:lock)"),
    "notify": text(
        "SELECT pg_notify(said.channel, said.payload)"
        " FROM unnest(CAST(:channels AS TEXT[]), CAST(:payloads AS TEXT[])) AS said(channel, payload)"
    ),
    "tables": text("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"),
}
TRANSACTIONS_BULK: Final[dict[str, ClauseElement]] = {"events_stored": _events()}
TRIGGERS: Final = """\
CREATE FUNCTION orchestrator_work() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orchestrator_work', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER runs_wait AFTER INSERT ON runs
    FOR EACH ROW WHEN (NEW.status = 'pending') EXECUTE FUNCTION orchestrator_work();
CREATE TRIGGER inbox_filled AFTER INSERT ON inbox
    FOR EACH STATEMENT EXECUTE FUNCTION orchestrator_work()"""
"""Whoever executes hears at the commit that a run waits or that something is asked of one; many at once are
one notification. As triggers, because no path may forget it."""
