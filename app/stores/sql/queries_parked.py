"""Statements about runs that wait, the runs they called, and concurrency keys.

Each rests on a partial index that holds few runs or none, so that runs without any of this pay for it with
a look at their status when it changes, and no more.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ClauseElement, bindparam, func, literal_column, or_, select, update

from app.stores.sql.queries import each, rows_of
from app.stores.sql.tables import (
    FINISHED,
    holds_a_key,
    one_of,
    run_columns,
    runs,
    unfinished,
    wakeable,
)

_wanted = each("run_ids")
_AT_ONCE: Final[Any] = literal_column("0.0")
_parked = or_(
    runs.c.status == literal_column("'waiting'"),
    (runs.c.status == literal_column("'cancelling'")) & runs.c.wake_at.is_not(None),
)
_child = runs.alias("child")
_ended_child: Any = select(literal_column("1")).where(
    _child.c.parent_run_id == runs.c.id,
    one_of(_child.c.status, FINISHED),
    _child.c.finished_at.is_(None) | (_child.c.finished_at > bindparam("ended_after")),
)


def _wake_runs() -> ClauseElement:
    """Of the runs that are named, those that are parked are due at once."""
    new = rows_of(runs, "id")
    return update(runs).where(runs.c.id == new.c.id, _parked).values(wake_at=_AT_ONCE)


PARKED: Final[dict[str, ClauseElement]] = {
    "runs_due": select(*run_columns)
    .where(runs.c.wake_at <= bindparam("now"), wakeable)
    .order_by(runs.c.wake_at, runs.c.id)
    .limit(bindparam("limit")),
    "next_wake": select(func.min(runs.c.wake_at)).where(wakeable),
    "wake_parked": update(runs).where(wakeable, runs.c.wake_at < bindparam("never")).values(wake_at=_AT_ONCE),
    "wake_callers": update(runs)
    .where(unfinished, _parked, _ended_child.correlate(runs).exists())
    .values(wake_at=_AT_ONCE),
    "active_by_key": select(runs.c.tenant, runs.c.workflow, runs.c.concurrency_key, runs.c.id)
    .where(holds_a_key, runs.c.started_at.is_not(None))
    .order_by(runs.c.started_at, runs.c.id),
    "runs_overtaken": select(*run_columns)
    .where(
        runs.c.tenant == bindparam("tenant"),
        runs.c.workflow == bindparam("workflow"),
        runs.c.concurrency_key == bindparam("key"),
        holds_a_key,
    )
    .order_by(runs.c.created_at.desc(), runs.c.id.desc())
    .limit(bindparam("limit"))
    .offset(bindparam("keep")),
    "run_statuses": select(runs.c.id, runs.c.status).where(runs.c.id.in_(select(_wanted.c.value))),
    "run_children": select(*run_columns)
    .where(literal_column("+runs.tenant") == bindparam("tenant"))
    .where(runs.c.parent_run_id == bindparam("run_id"))
    .order_by(runs.c.created_at, runs.c.id),
}

PARKED_BULK: Final[dict[str, ClauseElement]] = {"wake_runs": _wake_runs()}
