"""The statements about schedules, a part of `queries`.

A schedule is written only by whoever read the generation before. The previous run is looked up in `runs`
by the statements that find what is to be done, so that ten thousand waiting schedules are one question.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ClauseElement, bindparam, delete, func, literal_column, or_, select, tuple_, update

from app.stores.sql.tables import runs, schedules, unfinished

_PROGRESS: Final = ("next_fire_at", "queued_at", "previous_run_id", "progress", "generation")
_SETTINGS: Final = ("name", "spec", "overlap", "paused", "anchor", "revision", "updated_at")

_previous_active = (unfinished & runs.c.id.is_not(None)).label("previous_active")
_firing = select(schedules, _previous_active).select_from(
    schedules.outerjoin(runs, runs.c.id == schedules.c.previous_run_id)
)
_this = (schedules.c.id == bindparam("this_id")) & (schedules.c.tenant == bindparam("this_tenant"))
_before = schedules.c.generation == bindparam("generation") - literal_column("1")
_to_be_cancelled = (schedules.c.overlap == literal_column("'cancel_previous'")) & (
    runs.c.status != literal_column("'cancelling'")
)

SCHEDULES: Final[dict[str, ClauseElement]] = {
    "schedule_get": select(schedules).where(_this),
    "schedule_by_name": select(schedules).where(
        schedules.c.tenant == bindparam("tenant"), schedules.c.name == bindparam("name")
    ),
    "schedule_list": select(schedules)
    .where(schedules.c.tenant == bindparam("tenant"), schedules.c.name > bindparam("after"))
    .order_by(schedules.c.name)
    .limit(bindparam("limit")),
    "schedule_advance": update(schedules)
    .where(_this, _before)
    .values({name: bindparam(name) for name in _PROGRESS}),
    "schedule_update": update(schedules)
    .where(_this, _before)
    .values({name: bindparam(name) for name in (*_SETTINGS, *_PROGRESS)}),
    "schedule_delete": delete(schedules).where(
        _this, bindparam("revision").is_(None) | (schedules.c.revision == bindparam("revision"))
    ),
    "schedules_due": _firing.where(schedules.c.next_fire_at <= bindparam("now"))
    .order_by(schedules.c.next_fire_at, schedules.c.id)
    .limit(bindparam("limit")),
    "schedules_startable": _firing.where(
        schedules.c.queued_at.is_not(None),
        tuple_(schedules.c.queued_at, schedules.c.id)
        > tuple_(bindparam("after_time"), bindparam("after_id")),
        schedules.c.paused == literal_column("0"),
        or_(runs.c.id.is_(None), ~unfinished, _to_be_cancelled),
    )
    .order_by(schedules.c.queued_at, schedules.c.id)
    .limit(bindparam("limit")),
    "schedules_next": select(func.min(schedules.c.next_fire_at)),
}
