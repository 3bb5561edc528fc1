"""Statements that delete finished runs and what nothing names any more."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ClauseElement,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    select,
)

from app.stores.sql.queries import each
from app.stores.sql.tables import (
    UNFINISHED,
    definitions,
    finished,
    journal,
    one_of,
    run_labels,
    runs,
    workflows,
)
from app.stores.sql.tables_records import approvals, pruned_journals

_run_ids = each("run_ids")
_chosen: Any = select(_run_ids.c.value)
_hashes = each("hashes")
_parent = runs.alias("parent")
_waited_for: Any = (
    select(literal_column("1"))
    .where(_parent.c.id == runs.c.parent_run_id, one_of(_parent.c.status, UNFINISHED))
    .correlate(runs)
)


def _naming(table: Table) -> Any:
    """Whether a row of the table names the definition."""
    return exists().where(table.c.definition_hash == definitions.c.hash)


def _journal_sizes() -> Select[Any]:
    """Seq and bytes of a run's last events; the length of a blob is known without reading it."""
    return (
        select(journal.c.seq, func.length(journal.c.payload))
        .where(journal.c.run_id == bindparam("run_id"))
        .order_by(journal.c.seq.desc())
        .limit(bindparam("limit"))
    )


PRUNING: Final[dict[str, ClauseElement]] = {
    "runs_ended_before": select(runs.c.id, runs.c.definition_hash)
    .where(finished, runs.c.finished_at < bindparam("finished_before"), ~_waited_for.exists())
    .order_by(runs.c.finished_at, runs.c.id)
    .limit(bindparam("limit")),
    "journal_sizes": _journal_sizes(),
    "journal_delete": delete(journal).where(
        journal.c.run_id == bindparam("run_id"), journal.c.seq >= bindparam("first")
    ),
    "pruned_journals_get": select(pruned_journals.c.run_id).limit(bindparam("limit")),
    "pruned_journals_set": insert(pruned_journals).values(run_id=bindparam("run_id")),
    "pruned_journals_delete": delete(pruned_journals).where(pruned_journals.c.run_id == bindparam("run_id")),
    "labels_delete": delete(run_labels).where(run_labels.c.run_id.in_(_chosen)),
    "approvals_delete": delete(approvals).where(approvals.c.run_id.in_(_chosen)),
    "runs_delete": delete(runs).where(runs.c.id.in_(_chosen)),
    "definitions_after": select(definitions.c.hash)
    .where(definitions.c.hash > bindparam("after"))
    .order_by(definitions.c.hash)
    .limit(bindparam("limit")),
    "definitions_unnamed": select(definitions.c.hash, func.length(definitions.c.document)).where(
        definitions.c.hash.in_(select(_hashes.c.value)), ~_naming(runs), ~_naming(workflows)
    ),
    "definitions_delete": delete(definitions).where(definitions.c.hash.in_(select(_hashes.c.value))),
}
