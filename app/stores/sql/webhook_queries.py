"""The statements about webhooks, a part of `queries`.

`webhook_owe` is the outbox: one statement in the transaction of a group commit that makes a delivery of
every event for every endpoint that wants it. Where there is no endpoint at all it looks at nothing else.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ClauseElement,
    Double,
    Select,
    String,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from app.stores.sql.tables import (
    ended,
    of_a_run,
    pending,
    runs,
    unfinished,
    webhook_deliveries,
    webhook_endpoints,
)

_ends = webhook_endpoints
_dels = webhook_deliveries
_one: Any = literal_column("1")
_zero: Any = literal_column("0")
_null: Any = literal_column("NULL")
_none = literal_column("''", String)
_this = (_ends.c.id == bindparam("this_id")) & (_ends.c.tenant == bindparam("this_tenant"))
_delivery = (_dels.c.endpoint_id == bindparam("this_endpoint")) & (_dels.c.id == bindparam("this_id"))
_held = (_dels.c.endpoint_id == bindparam("endpoint_id")) & pending


def _owe() -> ClauseElement:
    """Deliveries of `[run id, seq, event, time]` in the JSON array `notices`."""
    notices = func.json_each(bindparam("notices")).table_valued("value", name="notices")
    types: tuple[Any, ...] = (String(), BigInteger(), String(), Double())
    run_id, seq, event, at = (
        func.json_extract(notices.c.value, literal_column(f"'$[{place}]'"), type_=kind)
        for place, kind in enumerate(types)
    )
    wanted = func.json_each(_ends.c.events).table_valued("value", name="wanted")
    is_wanted: Select[Any] = select(_one).select_from(wanted).where(wanted.c.value == event)
    rows: Select[Any] = (
        select(
            _ends.c.id,
            (literal_column("'msg_'", String) + runs.c.id + literal_column("'_'", String)).concat(seq),
            _ends.c.tenant,
            _ends.c.target,
            runs.c.id,
            seq,
            event,
            literal_column("'pending'"),
            _zero,
            _zero,
            literal_column("'[]'"),
            at,
            at,
            _null,
        )
        .select_from(notices.join(runs, runs.c.id == run_id).join(_ends, _ends.c.tenant == runs.c.tenant))
        .where(
            exists(select(_one).select_from(_ends.alias("any_endpoint"))),
            _ends.c.run_id.in_([_none, runs.c.id]),
            _ends.c.enabled == _one,
            _ends.c.workflow.is_(None) | (_ends.c.workflow == runs.c.workflow),
            is_wanted.correlate(_ends, notices).exists(),
            ~_missing_label().correlate(_ends, runs).exists(),
        )
    )
    # The same event again is the same delivery.
    return insert(_dels).from_select(_dels.c.keys(), rows).on_conflict_do_nothing()


def _missing_label() -> Select[Any]:
    asked = func.json_each(_ends.c.labels).table_valued("key", "value", name="asked")
    has = func.json_each(runs.c.labels).table_valued("key", "value", name="has")
    present: Select[Any] = (
        select(_one).select_from(has).where(has.c.key == asked.c.key, has.c.value == asked.c.value)
    )
    return select(_one).select_from(asked).where(~present.correlate(asked, runs).exists())


def _targets() -> ClauseElement:
    """`(since, target)` of targets that something is due to.

    Hops from target to target through the index, so that it costs as much for one delivery of a target as
    for a hundred thousand.
    """
    # The lower bound makes the index do for the first one, too.
    owed = pending & _dels.c.next_attempt_at.is_not(None)
    order = (_dels.c.target, _dels.c.next_attempt_at)
    first = select(*order).where(owed, _dels.c.target > _none).order_by(*order).limit(_one).subquery()
    hops = select(first.c.target, first.c.next_attempt_at).cte("hops", recursive=True)
    beyond = owed & (_dels.c.target > hops.c.target)
    target, at = (
        select(column).where(beyond).order_by(*order).limit(_one).correlate(hops).scalar_subquery()
        for column in order
    )
    hops = hops.union_all(select(target, at).where(hops.c.target.is_not(None)))
    excluded = func.json_each(bindparam("exclude")).table_valued("value", name="excluded")
    return select(hops.c.next_attempt_at, hops.c.target).where(
        hops.c.next_attempt_at <= bindparam("now"), hops.c.target.not_in(select(excluded.c.value))
    )


def _due_to_target() -> ClauseElement:
    """The keys of what is due to one target, the longest due first."""
    return (
        select(_dels.c.next_attempt_at, _dels.c.endpoint_id, _dels.c.id)
        .where(pending, _dels.c.target == bindparam("target"), _dels.c.next_attempt_at <= bindparam("now"))
        .order_by(_dels.c.next_attempt_at)
        .limit(bindparam("limit"))
    )


def _to_send() -> ClauseElement:
    """One delivery with all that is needed to send it."""
    together = _dels.join(_ends, _ends.c.id == _dels.c.endpoint_id).outerjoin(
        runs, (runs.c.id == _dels.c.run_id) & (runs.c.tenant == _dels.c.tenant)
    )
    return select(_dels, _ends, runs).select_from(together).where(_delivery, _ends.c.enabled == _one)


def _list(*, by_run: bool) -> ClauseElement:
    place = (_dels.c.created_at, _dels.c.endpoint_id, _dels.c.id)
    before: tuple[Any, ...] = tuple(
        bindparam(name) for name in ("before_time", "before_endpoint", "before_id")
    )
    owner = _dels.c.run_id if by_run else _dels.c.endpoint_id
    return (
        select(_dels)
        .where(
            owner == bindparam("owner"),
            _dels.c.tenant == bindparam("tenant"),
            tuple_(*place) < tuple_(*before),
            bindparam("status").is_(None) | (_dels.c.status == bindparam("status")),
        )
        .order_by(*(column.desc() for column in place))
        .limit(bindparam("limit"))
    )


def _record() -> ClauseElement:
    """What belongs to a disabled endpoint gets no next time."""
    enabled = _ends.alias("mine")
    return (
        update(_dels)
        .where(_delivery, _dels.c.round == bindparam("this_round"))
        .where(pending, _dels.c.tries < bindparam("this_try"))
        .values(
            status=bindparam("status"),
            tries=bindparam("tries"),
            attempts=bindparam("attempts"),
            finished_at=bindparam("finished_at"),
            next_attempt_at=select(bindparam("next_attempt_at"))
            .select_from(enabled)
            .where(enabled.c.id == _dels.c.endpoint_id, enabled.c.enabled == _one)
            .scalar_subquery(),
        )
    )


def _prune() -> dict[str, ClauseElement]:
    old = (
        select(_dels.c.endpoint_id, _dels.c.id)
        .where(ended, _dels.c.finished_at < bindparam("older_than"))
        .order_by(_dels.c.finished_at)
        .limit(bindparam("limit"))
    )
    owed = select(_one).where(_dels.c.endpoint_id == _ends.c.id).correlate(_ends).exists()
    active = select(_one).where(runs.c.id == _ends.c.run_id, unfinished).correlate(_ends).exists()
    useless = (
        select(_ends.c.id)
        .where(of_a_run, _ends.c.created_at < bindparam("older_than"), ~owed, ~active)
        .limit(bindparam("limit"))
    )
    return {
        "webhook_prune_deliveries": delete(_dels).where(tuple_(_dels.c.endpoint_id, _dels.c.id).in_(old)),
        "webhook_prune_endpoints": delete(_ends).where(_ends.c.id.in_(useless)),
    }


_SET: Final = (
    *("url", "target", "events", "workflow", "labels", "description", "enabled", "disabled_reason"),
    *("include_outputs", "secret", "old_secret", "old_secret_until", "revision", "updated_at"),
)

WEBHOOKS: Final[dict[str, ClauseElement]] = {
    "webhook_owe": _owe(),
    "webhook_get": select(_ends).where(_this),
    "webhook_list": select(_ends)
    .where(_ends.c.tenant == bindparam("tenant"), _ends.c.run_id == _none, _ends.c.id > bindparam("after"))
    .order_by(_ends.c.id)
    .limit(bindparam("limit")),
    "webhook_update": update(_ends)
    .where(_this, _ends.c.revision == bindparam("revision") - _one)
    .values({name: bindparam(name) for name in _SET}),
    "webhook_delete": delete(_ends).where(_this),
    "webhook_delete_deliveries": delete(_dels).where(
        _dels.c.endpoint_id == bindparam("endpoint_id"), _dels.c.tenant == bindparam("tenant")
    ),
    "webhook_disable": update(_ends)
    .where(_ends.c.id == bindparam("this_id"), _ends.c.enabled == _one)
    .values(
        enabled=_zero,
        disabled_reason=bindparam("reason"),
        revision=_ends.c.revision + _one,
        updated_at=bindparam("now"),
    ),
    "webhook_hold": update(_dels).where(_held).values(next_attempt_at=_null),
    "webhook_release": update(_dels)
    .where(_held, _dels.c.next_attempt_at.is_(None))
    .values(next_attempt_at=bindparam("now")),
    "webhook_delivery": select(_dels).where(_delivery, _dels.c.tenant == bindparam("tenant")),
    "webhook_deliveries": _list(by_run=False),
    "webhook_deliveries_run": _list(by_run=True),
    "webhook_redeliver": update(_dels)
    .where(_delivery, _dels.c.tenant == bindparam("tenant"))
    .values(
        status=literal_column("'pending'"),
        tries=_zero,
        round=_dels.c.round + _one,
        next_attempt_at=bindparam("now"),
        finished_at=_null,
    ),
    "webhook_targets": _targets(),
    "webhooks_due": _due_to_target(),
    "webhook_to_send": _to_send(),
    "webhook_count": select(func.count()).where(
        _ends.c.tenant == bindparam("tenant"), _ends.c.run_id == _none
    ),
    "webhook_record": _record(),
    # The range makes the partial index do for it.
    "webhooks_pending": select(func.count()).where(pending, _dels.c.endpoint_id > _none),
    **_prune(),
}
