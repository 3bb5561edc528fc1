"""Statements about approvals, the step cache and index contracts."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ClauseElement, Select, Table, bindparam, delete, func, select, tuple_
from sqlalchemy.dialects.sqlite import insert as insert_or_replace

from app.stores.sql.queries import each, rows_of
from app.stores.sql.tables_records import approvals, index_contracts, step_cache

_statuses = each("statuses")
_of_index = (
    index_contracts.c.database_name == bindparam("database"),
    index_contracts.c.index_name == bindparam("index"),
)


def _upsert(table: Table) -> ClauseElement:
    """Insert every row whose first column is not NULL, or replace the one with its primary key."""
    names = table.c.keys()
    new = rows_of(table, *names)
    statement = insert_or_replace(table).from_select(names, select(new).where(new.c[names[0]].is_not(None)))
    keys = list(table.primary_key)
    others = {column.name: statement.excluded[column.name] for column in table.c if column not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=others)


def _approvals() -> Select[Any]:
    """Oldest first, after a given one."""
    after = tuple_(bindparam("after_time"), bindparam("after_id"))
    return (
        select(approvals)
        .where(tuple_(approvals.c.created_at, approvals.c.id) > after)
        .order_by(approvals.c.created_at, approvals.c.id)
        .limit(bindparam("limit"))
    )


RECORDS: Final[dict[str, ClauseElement]] = {
    "approval_get": select(approvals).where(
        approvals.c.id == bindparam("id"), approvals.c.tenant == bindparam("tenant")
    ),
    "approvals_by_status": _approvals().where(
        approvals.c.tenant == bindparam("tenant"), approvals.c.status == bindparam("status")
    ),
    "approvals_of_run": _approvals().where(
        approvals.c.run_id == bindparam("run_id"),
        approvals.c.tenant == bindparam("tenant"),
        approvals.c.status.in_(select(_statuses.c.value)),
    ),
    "cache_find": select(step_cache.c.value).where(
        step_cache.c.tenant == bindparam("tenant"),
        step_cache.c.key == bindparam("key"),
        step_cache.c.expires_at > bindparam("now"),
    ),
    "cache_expired": select(step_cache.c.tenant, step_cache.c.key, func.length(step_cache.c.value))
    .where(step_cache.c.expires_at <= bindparam("now"))
    .order_by(step_cache.c.expires_at)
    .limit(bindparam("limit")),
    "cache_delete": delete(step_cache).where(
        step_cache.c.tenant == bindparam("tenant"), step_cache.c.key == bindparam("key")
    ),
    "contract_get": select(index_contracts).where(*_of_index),
    "contract_insert": insert_or_replace(index_contracts)
    .values(
        database_name=bindparam("database"),
        index_name=bindparam("index"),
        model=bindparam("model"),
        dimensions=bindparam("dimensions"),
        metric=bindparam("metric"),
    )
    .on_conflict_do_nothing(),
    "contract_delete": delete(index_contracts).where(*_of_index),
}

RECORDS_BULK: Final[dict[str, ClauseElement]] = {
    "upsert_approvals": _upsert(approvals),
    "upsert_step_cache": _upsert(step_cache),
}
