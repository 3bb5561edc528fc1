"""Rows about webhooks to and from the port's data classes; columns in the order of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import orjson

from app.ports.errors import StoreError
from app.ports.webhooks import Delivery, DueDelivery, Endpoint, SendAttempt
from app.stores.sql.rows import Row, run_from

ENDPOINT_COLUMNS: Final = (
    *("id", "tenant", "run_id", "url", "target", "events", "workflow", "labels", "description", "enabled"),
    *("disabled_reason", "include_outputs", "secret", "old_secret", "old_secret_until", "revision"),
    *("created_at", "updated_at"),
)
DELIVERY_COLUMNS: Final = (
    *("endpoint_id", "id", "tenant", "target", "run_id", "seq", "event", "status", "tries", "round"),
    *("attempts", "next_attempt_at", "created_at", "finished_at"),
)


def endpoint_parameters(endpoint: Endpoint) -> dict[str, Any]:
    """Every column of `webhook_endpoints` by name."""
    return {
        "id": endpoint.id,
        "tenant": endpoint.tenant,
        "run_id": endpoint.run_id or "",
        "url": endpoint.url,
        "target": endpoint.target,
        "events": _json(list(endpoint.events), endpoint.id),
        "workflow": endpoint.workflow,
        "labels": _json(dict(endpoint.labels), endpoint.id),
        "description": endpoint.description,
        "enabled": int(endpoint.enabled),
        "disabled_reason": endpoint.disabled_reason,
        "include_outputs": int(endpoint.include_outputs),
        "secret": endpoint.secret,
        "old_secret": endpoint.old_secret,
        "old_secret_until": endpoint.old_secret_until,
        "revision": endpoint.revision,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }


def endpoint_row(endpoint: Endpoint) -> Row:
    """A row of `webhook_endpoints`. Raises `StoreError` for what is no JSON."""
    return tuple(endpoint_parameters(endpoint).values())


def endpoint_from(row: Row) -> Endpoint:
    """A row of `webhook_endpoints`."""
    stored = dict(zip(ENDPOINT_COLUMNS, row, strict=False))
    stored["run_id"] = stored["run_id"] or None
    stored["events"] = tuple(orjson.loads(stored["events"]))
    stored["labels"] = orjson.loads(stored["labels"])
    stored["enabled"] = bool(stored["enabled"])
    stored["include_outputs"] = bool(stored["include_outputs"])
    return Endpoint(**stored)


def attempts_text(attempts: Sequence[SendAttempt], delivery_id: str) -> str:
    """The log of a delivery as it is stored."""
    return _json([asdict(attempt) for attempt in attempts], delivery_id)


def delivery_row(delivery: Delivery) -> Row:
    """A row of `webhook_deliveries`."""
    stored: Mapping[str, Any] = {
        name: getattr(delivery, name) for name in DELIVERY_COLUMNS if name != "attempts"
    } | {"attempts": attempts_text(delivery.attempts, delivery.id)}
    return tuple(stored[name] for name in DELIVERY_COLUMNS)


def delivery_from(row: Row) -> Delivery:
    """A row of `webhook_deliveries`."""
    stored = dict(zip(DELIVERY_COLUMNS, row, strict=False))
    stored["attempts"] = tuple(SendAttempt(**attempt) for attempt in orjson.loads(stored["attempts"]))
    return Delivery(**stored)


def due_from(row: Row) -> DueDelivery:
    """A delivery, its endpoint and its run side by side."""
    rest = row[len(DELIVERY_COLUMNS) :]
    run = rest[len(ENDPOINT_COLUMNS) :]
    return DueDelivery(
        delivery=delivery_from(row),
        endpoint=endpoint_from(rest),
        run=None if run[0] is None else run_from(run),
    )


def _json(value: Any, whose: str) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise StoreError(f"webhook {whose!r} cannot be stored: it must be valid Unicode") from error
