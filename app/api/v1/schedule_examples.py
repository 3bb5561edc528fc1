"""Examples of the OpenAPI document for schedules. A test validates each against its schema."""

from __future__ import annotations

from typing import Any, Final

_ID: Final = "0197d6a0-7c1e-7000-8000-000000000001"
_RUN_ID: Final = "0197d6a0-7c1e-7000-8000-000000000000"
SETTINGS: Final[dict[str, Any]] = {
    "name": "morning digest",
    "workflow": "greet",
    "inputs": {"who": "Ada"},
    "cron": "0 9 * * MON-FRI",
    "time_zone": "Europe/Berlin",
    "overlap": "skip",
    "catch_up": "latest",
}
INTERVAL: Final[dict[str, Any]] = {
    "name": "poll",
    "workflow": "greet",
    "inputs": {"who": "Ada"},
    "interval_seconds": 300,
    "start_at": "2026-02-01T00:00:00Z",
}
_FIRE: Final[dict[str, Any]] = {
    "fire_at": "2026-01-30T08:00:00.000000Z",
    "outcome": "started",
    "at": "2026-01-30T08:00:00.012000Z",
    "run_id": _RUN_ID,
    "detail": None,
    "manual": False,
}
SUMMARY: Final[dict[str, Any]] = {
    "id": _ID,
    "name": "morning digest",
    "state": "active",
    "workflow": "greet",
    "version": None,
    "cron": "0 9 * * MON-FRI",
    "interval_seconds": None,
    "time_zone": "Europe/Berlin",
    "overlap": "skip",
    "catch_up": "latest",
    "catch_up_seconds": 86400,
    "start_at": None,
    "end_at": None,
    "next_fire_at": "2026-02-02T08:00:00.000000Z",
    "last_fire": _FIRE,
    "last_run_id": _RUN_ID,
    "counts": {"started": 1, "skipped": 0, "failed": 0, "missed": 0},
    "revision": 1,
    "created_at": "2026-01-29T12:00:00.000000Z",
    "updated_at": "2026-01-29T12:00:00.000000Z",
    "links": {
        "self": f"/v1/schedules/{_ID}",
        "runs": "/v1/runs?label=schedule%3Amorning%20digest",
        "last_run": f"/v1/runs/{_RUN_ID}",
    },
}
SCHEDULE: Final[dict[str, Any]] = {
    **SUMMARY,
    "inputs": {"who": "Ada"},
    "labels": {},
    "priority": 0,
    "timeout_seconds": None,
    "next_fire_times": [
        "2026-02-02T08:00:00.000000Z",
        "2026-02-03T08:00:00.000000Z",
        "2026-02-04T08:00:00.000000Z",
        "2026-02-05T08:00:00.000000Z",
        "2026-02-06T08:00:00.000000Z",
    ],
    "queued": [],
    "recent_fires": [_FIRE],
}
SCHEDULE_LIST: Final[dict[str, Any]] = {"data": [SUMMARY], "next_cursor": None}
