"""Statements about the inbox."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ClauseElement, bindparam, delete, insert, select, update

from app.stores.sql.queries import each
from app.stores.sql.tables_records import inbox

_runs = each("run_ids")

INBOX: Final[dict[str, ClauseElement]] = {
    "control_get": select(inbox).where(inbox.c.id == bindparam("id")),
    "control_insert": insert(inbox).values(
        id=bindparam("id"),
        run_id=bindparam("run_id"),
        type=bindparam("type"),
        payload=bindparam("payload"),
        at=bindparam("at"),
        outcome=bindparam("outcome"),
    ),
    "controls_unsettled": select(inbox).where(
        inbox.c.run_id.in_(select(_runs.c.value)), inbox.c.outcome.is_(None)
    ),
    "controls_neglected": select(inbox.c.run_id)
    .where(inbox.c.outcome.is_(None), inbox.c.at < bindparam("before"))
    .order_by(inbox.c.at)
    .limit(bindparam("limit")),
    "control_settle": update(inbox)
    .where(inbox.c.id == bindparam("control_id"), inbox.c.outcome.is_(None))
    .values(outcome=bindparam("settled_as")),
    "controls_prune": delete(inbox).where(inbox.c.at < bindparam("older_than")),
}
