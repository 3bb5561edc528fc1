"""Webhooks to JSON bytes; `app.api.v1.schemas.webhooks` documents the same shapes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import orjson

from app.api.problems import problem_entry
from app.api.v1.rendering import run_path
from app.ports.problems import Problem
from app.ports.webhooks import Delivery, SendAttempt
from app.services.timestamps import rfc3339, rfc3339_or_none
from app.services.webhook_views import WebhookView


def webhook_path(webhook_id: str) -> str:
    """Where a webhook is."""
    return f"/v1/webhooks/{webhook_id}"


def deliveries_path(webhook_id: str) -> str:
    """Where its log is."""
    return f"{webhook_path(webhook_id)}/deliveries"


def render_created(view: WebhookView, warnings: Collection[Problem]) -> bytes:
    """`WebhookCreated`."""
    told = {"warnings": [problem_entry(warning) for warning in warnings]}
    return orjson.dumps({**_webhook(view), **_secret(view), **told})


def render_webhook(view: WebhookView) -> bytes:
    """`Webhook`, or `WebhookWithSecret` where the view has the secret, or says that it was shown."""
    body = _webhook(view)
    if view.secret is not None or view.secret_shown:
        body |= _secret(view)
    return orjson.dumps(body)


def render_webhooks(items: Collection[WebhookView], next_cursor: str | None) -> bytes:
    """`WebhookList`."""
    return orjson.dumps({"data": [_webhook(item) for item in items], "next_cursor": next_cursor})


def render_delivery(delivery: Delivery) -> bytes:
    """`Delivery`."""
    return orjson.dumps(_delivery(delivery))


def render_deliveries(items: Collection[Delivery], next_cursor: str | None) -> bytes:
    """`DeliveryList`."""
    return orjson.dumps({"data": [_delivery(item) for item in items], "next_cursor": next_cursor})


def _secret(view: WebhookView) -> dict[str, Any]:
    return {"secret": view.secret, "secret_shown_before": view.secret_shown}


def _webhook(view: WebhookView) -> dict[str, Any]:
    row = view.endpoint
    return {
        "id": row.id,
        "url": row.url,
        "events": list(row.events),
        "workflow": row.workflow,
        "labels": row.labels,
        "description": row.description,
        "enabled": row.enabled,
        "disabled_reason": row.disabled_reason,
        "include_outputs": row.include_outputs,
        "run_id": row.run_id,
        "rotating_until": rfc3339_or_none(view.rotating_until),
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "links": {"self": webhook_path(row.id), "deliveries": deliveries_path(row.id)},
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    run_id = delivery.run_id
    return {
        "id": delivery.id,
        "webhook_id": delivery.endpoint_id,
        "run_id": run_id,
        "event": delivery.event,
        "status": delivery.status,
        "tries": delivery.tries,
        "attempts": [_attempt(attempt) for attempt in delivery.attempts],
        "next_attempt_at": rfc3339_or_none(delivery.next_attempt_at),
        "created_at": rfc3339(delivery.created_at),
        "finished_at": rfc3339_or_none(delivery.finished_at),
        "links": {
            "webhook": webhook_path(delivery.endpoint_id),
            "run": None if run_id is None else run_path(run_id),
            "redeliver": f"{deliveries_path(delivery.endpoint_id)}/{delivery.id}/redeliver",
        },
    }


def _attempt(attempt: SendAttempt) -> dict[str, Any]:
    return {
        "at": rfc3339(attempt.at),
        "latency_ms": round(attempt.seconds * 1000, 3),
        "status_code": attempt.status_code,
        "error": attempt.error,
    }
