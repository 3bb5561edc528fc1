"""Schedules to JSON bytes; `app.api.v1.schemas.schedules` documents the same shapes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import orjson

from app.api.v1.rendering import run_path
from app.ports.schedules import Fire, ScheduleRow
from app.services.schedule_views import ScheduleView
from app.services.timestamps import rfc3339, rfc3339_or_none


def schedule_path(schedule_id: str) -> str:
    """Where a schedule is."""
    return f"/v1/schedules/{schedule_id}"


def render_schedule(view: ScheduleView) -> bytes:
    """`Schedule`."""
    spec, progress = view.row.spec, view.row.progress
    body = _summary(view)
    body["inputs"] = spec.inputs
    body["labels"] = spec.labels
    body["priority"] = spec.priority
    body["timeout_seconds"] = spec.timeout_seconds
    body["next_fire_times"] = [rfc3339(at) for at in view.next_fire_times]
    body["queued"] = [rfc3339(at) for at in progress.queue]
    body["recent_fires"] = [_fire(fire) for fire in progress.fires]
    return orjson.dumps(body)


def render_schedules(items: Collection[ScheduleView], next_cursor: str | None) -> bytes:
    """`ScheduleList`."""
    return orjson.dumps({"data": [_summary(item) for item in items], "next_cursor": next_cursor})


def _summary(view: ScheduleView) -> dict[str, Any]:
    row, spec, progress = view.row, view.row.spec, view.row.progress
    return {
        "id": row.id,
        "name": row.name,
        "state": view.state,
        "workflow": spec.workflow,
        "version": spec.version,
        "cron": spec.cron,
        "interval_seconds": spec.interval_seconds,
        "time_zone": spec.time_zone,
        "overlap": spec.overlap,
        "catch_up": spec.catch_up,
        "catch_up_seconds": spec.catch_up_seconds,
        "start_at": rfc3339_or_none(spec.start_at),
        "end_at": rfc3339_or_none(spec.end_at),
        "next_fire_at": rfc3339_or_none(progress.next_fire_at),
        "last_fire": _fire(progress.fires[0]) if progress.fires else None,
        "last_run_id": progress.last_run_id,
        "counts": asdict(progress.counts),
        "revision": row.revision,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "links": _links(row),
    }


def _links(row: ScheduleRow) -> dict[str, str | None]:
    last = row.progress.last_run_id
    return {
        "self": schedule_path(row.id),
        "runs": "/v1/runs?label=" + quote(f"schedule:{row.name}", safe=""),
        "last_run": None if last is None else run_path(last),
    }


def _fire(fire: Fire) -> dict[str, Any]:
    return {
        "fire_at": rfc3339(fire.fire_at),
        "outcome": fire.outcome,
        "at": rfc3339(fire.at),
        "run_id": fire.run_id,
        "detail": fire.detail,
        "manual": fire.manual,
    }
