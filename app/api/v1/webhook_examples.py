"""Examples of the OpenAPI document for webhooks. A test validates each against its schema."""

from __future__ import annotations

from typing import Any, Final

_ID: Final = "0197d6a0-7c1e-7000-8000-000000000002"
_RUN_ID: Final = "0197d6a0-7c1e-7000-8000-000000000000"
SETTINGS: Final[dict[str, Any]] = {
    "url": "https://example.com/hooks/runs",
    "events": ["run.completed", "run.failed"],
    "workflow": "greet",
    "description": "billing",
}
CHANGES: Final[dict[str, Any]] = {"enabled": False}
ROTATION: Final[dict[str, Any]] = {"keep_old_seconds": 86400}
WEBHOOK: Final[dict[str, Any]] = {
    "id": _ID,
    "url": "https://example.com/hooks/runs",
    "events": ["run.completed", "run.failed"],
    "workflow": "greet",
    "labels": {},
    "description": "billing",
    "enabled": True,
    "disabled_reason": None,
    "include_outputs": False,
    "run_id": None,
    "rotating_until": None,
    "created_at": "2026-01-31T12:00:00.000000Z",
    "updated_at": "2026-01-31T12:00:00.000000Z",
    "links": {"self": f"/v1/webhooks/{_ID}", "deliveries": f"/v1/webhooks/{_ID}/deliveries"},
}
WEBHOOK_WITH_SECRET: Final[dict[str, Any]] = {
    **WEBHOOK,
    "secret": "whsec_ZXhhbXBsZSBvbmx5LCBkbyBub3QgdXNlIHRoaXMgb25l",
    "secret_shown_before": False,
}
WEBHOOK_CREATED: Final[dict[str, Any]] = {**WEBHOOK_WITH_SECRET, "warnings": []}
WEBHOOK_LIST: Final[dict[str, Any]] = {"data": [WEBHOOK], "next_cursor": None}
DELIVERY: Final[dict[str, Any]] = {
    "id": f"msg_{_RUN_ID}_5",
    "webhook_id": _ID,
    "run_id": _RUN_ID,
    "event": "run.completed",
    "status": "pending",
    "tries": 1,
    "attempts": [
        {
            "at": "2026-01-31T12:00:01.000000Z",
            "latency_ms": 210.5,
            "status_code": 503,
            "error": "answered 503: try later",
        }
    ],
    "next_attempt_at": "2026-01-31T12:00:06.000000Z",
    "created_at": "2026-01-31T12:00:00.621000Z",
    "finished_at": None,
    "links": {
        "webhook": f"/v1/webhooks/{_ID}",
        "run": f"/v1/runs/{_RUN_ID}",
        "redeliver": f"/v1/webhooks/{_ID}/deliveries/msg_{_RUN_ID}_5/redeliver",
    },
}
DELIVERY_LIST: Final[dict[str, Any]] = {"data": [DELIVERY], "next_cursor": None}
