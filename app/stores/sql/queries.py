"""Every statement of the journal store, in SQLAlchemy Core.

Reads have named parameters. Bulk writes (`BULK`) take the parameters of many rows in order: the one
`VALUES` row they are written with here is repeated as often as needed, rows that begin with NULL fill up.
`compile` turns this module into the SQL text that the SQLite adapter ships and reviewers read.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    CTE,
    ClauseElement,
    FromClause,
    Select,
    Table,
    TableValuedAlias,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal_column,
    select,
    tuple_,
    update,
    values,
)
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore

from app.stores.sql.schedule_queries import SCHEDULES
from app.stores.sql.tables import (
    definitions,
    idempotency,
    journal,
    run_columns,
    run_labels,
    runs,
    schedules,
    schema_version,
    unfinished,
    webhook_deliveries,
    webhook_endpoints,
    workflows,
    write_probe,
)
from app.stores.sql.webhook_queries import WEBHOOKS

PROBE_BYTES: Final = 64 * 1024
"""As much as a usual batch writes: a probe that fits where a batch would not proves nothing. Random, because
SQLite writes no page whose content stays the same."""


def each(parameter: str) -> TableValuedAlias:
    """The items of a JSON array that is passed as one parameter."""
    return func.json_each(bindparam(parameter)).table_valued("value", name=parameter)


def _runs_list(*, by_workflow: bool, by_label: bool) -> Select[Any]:
    """Newest first; with a label, driven by that label's own index. Absent bounds are infinities.

    Times before T are pairs before (T, ""), so that both upper bounds are one that the index can use.
    """
    order: Table = run_labels if by_label else runs
    run_id = run_labels.c.run_id if by_label else runs.c.id
    statuses = each("statuses")
    query = select(*run_columns).where(
        order.c.tenant == bindparam("tenant"),
        tuple_(order.c.created_at, run_id) < tuple_(bindparam("before_time"), bindparam("before_id")),
        order.c.created_at > bindparam("created_after"),
        bindparam("statuses").is_(None) | runs.c.status.in_(select(statuses.c.value)),
    )
    if by_workflow:
        query = query.where(runs.c.workflow == bindparam("workflow"))
    if by_label:
        query = query.join_from(run_labels, runs, runs.c.id == run_labels.c.run_id)
        query = query.where(
            run_labels.c.key == bindparam("label_key"), run_labels.c.value == bindparam("label_value")
        )
        query = query.where(_no_label_missing())
    return query.order_by(order.c.created_at.desc(), run_id.desc()).limit(bindparam("limit"))


def _no_label_missing() -> Any:
    """None of the `[key, value]` pairs in the parameter `more_labels` lacks its row."""
    more = each("more_labels")
    other = run_labels.alias("other")
    found: Select[Any] = select(literal_column("1")).where(
        other.c.tenant == runs.c.tenant,
        other.c.key == func.json_extract(more.c.value, literal_column("'$[0]'")),
        other.c.value == func.json_extract(more.c.value, literal_column("'$[1]'")),
        other.c.created_at == runs.c.created_at,
        other.c.run_id == runs.c.id,
    )
    missing: Select[Any] = select(literal_column("1")).select_from(more)
    return ~missing.where(~found.correlate(more, runs).exists()).correlate(runs).exists()


def _by_status(*conditions: Any) -> Select[Any]:
    """Runs of one status, high priority first, then old first; run once for each status asked for."""
    chosen = each("exclude")
    return (
        select(*run_columns)
        .where(runs.c.status == bindparam("status"), *conditions)
        .where(runs.c.id.not_in(select(chosen.c.value)))
        .order_by(runs.c.priority.desc(), runs.c.created_at, runs.c.id)
        .limit(bindparam("limit"))
    )


_newest = workflows.alias("newest")
_wanted_runs = each("run_ids")
_wanted_keys = each("pairs")
_count = select(func.count()).select_from(runs)

NAMED: Final[dict[str, ClauseElement]] = {
    "journal_read": select(journal.c.seq, journal.c.type, journal.c.payload, journal.c.at)
    .where(journal.c.run_id == bindparam("run_id"), journal.c.seq > bindparam("after"))
    .order_by(journal.c.seq)
    .limit(bindparam("limit")),
    "run_get": select(*run_columns).where(runs.c.id == bindparam("id"), runs.c.tenant == bindparam("tenant")),
    "runs_list": _runs_list(by_workflow=False, by_label=False),
    "runs_list_workflow": _runs_list(by_workflow=True, by_label=False),
    "runs_list_label": _runs_list(by_workflow=False, by_label=True),
    "runs_list_workflow_label": _runs_list(by_workflow=True, by_label=True),
    "runs_unfinished": _by_status(unfinished),
    "runs_by_status": _by_status(),
    "count_unfinished": _count.where(runs.c.status == bindparam("status"), unfinished),
    "count_by_status": _count.where(runs.c.status == bindparam("status")),
    # The unary plus keeps SQLite off the index of all runs ever made by the workflow.
    "active_of_workflow": _count.where(
        unfinished,
        literal_column("+runs.tenant") == bindparam("tenant"),
        literal_column("+runs.workflow") == bindparam("workflow"),
    ),
    "definition_get": select(definitions.c.document).where(definitions.c.hash == bindparam("hash")),
    "workflow_version": select(workflows).where(
        workflows.c.tenant == bindparam("tenant"),
        workflows.c.name == bindparam("name"),
        workflows.c.version == bindparam("version"),
    ),
    "workflow_versions": select(workflows)
    .where(
        workflows.c.tenant == bindparam("tenant"),
        workflows.c.name == bindparam("name"),
        workflows.c.revision < bindparam("before_revision"),
    )
    .order_by(workflows.c.revision.desc())
    .limit(bindparam("limit")),
    "workflow_list": select(workflows)
    .where(
        workflows.c.tenant == bindparam("tenant"),
        workflows.c.name > bindparam("after"),
        workflows.c.revision
        == select(func.max(_newest.c.revision))
        .where(_newest.c.tenant == workflows.c.tenant, _newest.c.name == workflows.c.name)
        .scalar_subquery(),
    )
    .order_by(workflows.c.name)
    .limit(bindparam("limit")),
    "workflow_delete": delete(workflows).where(
        workflows.c.tenant == bindparam("tenant"), workflows.c.name == bindparam("name")
    ),
    "idempotency_find": select(idempotency).where(
        idempotency.c.tenant == bindparam("tenant"), idempotency.c.key == bindparam("key")
    ),
    "idempotency_delete": delete(idempotency).where(
        idempotency.c.tenant == bindparam("tenant"), idempotency.c.key == bindparam("key")
    ),
    "idempotency_prune": delete(idempotency).where(idempotency.c.created_at < bindparam("older_than")),
    "last_seqs": select(
        _wanted_runs.c.value,
        func.coalesce(
            select(func.max(journal.c.seq))
            .where(journal.c.run_id == _wanted_runs.c.value)
            .correlate(_wanted_runs)
            .scalar_subquery(),
            literal_column("0"),
        ),
    ),
    "known_runs": select(runs.c.id).where(runs.c.id.in_(select(_wanted_runs.c.value))),
    "known_keys": select(idempotency.c.tenant, idempotency.c.key, idempotency.c.created_at).join_from(
        _wanted_keys,
        idempotency,
        (idempotency.c.tenant == func.json_extract(_wanted_keys.c.value, literal_column("'$[0]'")))
        & (idempotency.c.key == func.json_extract(_wanted_keys.c.value, literal_column("'$[1]'"))),
    ),
    **SCHEDULES,
    **WEBHOOKS,
    "schema_version_get": select(schema_version.c.version),
    "schema_version_set": insert(schema_version).values(version=bindparam("version")),
    "probe_create": insert(write_probe).values(
        id=literal_column("1"), filler=func.zeroblob(literal_column("1"))
    ),
    "probe": update(write_probe).values(filler=func.randomblob(literal_column(str(PROBE_BYTES)))),
}


def rows_of(table: FromClause, *names: str) -> CTE:
    """One row of positional parameters, to be repeated."""
    columns = [column(name, table.c[name].type) for name in names]
    row: tuple[Any, ...] = tuple(bindparam(name, None) for name in names)
    return values(*columns, name="new").data([row]).cte("new")


def _insert(table: Table, *names: str) -> ClauseElement:
    """Insert every row whose first column is not NULL; all columns, unless some are named."""
    columns = names or tuple(table.c.keys())
    new = rows_of(table, *columns)
    present = select(new).where(new.c[columns[0]].is_not(None))
    statement = insert_or_ignore(table).from_select(columns, present)
    # A definition is its content: the same one again changes nothing.
    return statement.on_conflict_do_nothing() if table is definitions else statement


def _update_runs() -> ClauseElement:
    """Set status and wake_at and, where not NULL, the times of the runs that are named."""
    new = rows_of(runs, "id", "status", "started_at", "finished_at", "wake_at")
    return (
        update(runs)
        .where(runs.c.id == new.c.id)
        .values(
            status=new.c.status,
            started_at=func.coalesce(new.c.started_at, runs.c.started_at),
            finished_at=func.coalesce(new.c.finished_at, runs.c.finished_at),
            wake_at=new.c.wake_at,
        )
    )


BULK: Final[dict[str, ClauseElement]] = {
    "insert_journal": _insert(journal),
    "insert_runs": _insert(runs, *(column.name for column in run_columns)),
    "insert_labels": _insert(run_labels),
    "insert_definitions": _insert(definitions),
    "insert_workflows": _insert(workflows),
    "insert_idempotency": _insert(idempotency),
    "update_runs": _update_runs(),
    "insert_schedules": _insert(schedules),
    "insert_webhook_endpoints": _insert(webhook_endpoints),
    "insert_webhook_deliveries": _insert(webhook_deliveries),
}
