"""Endpoints and deliveries for the tests of the stores and of what sends."""

from __future__ import annotations

from typing import Any

from app.ports.webhooks import Delivery, Endpoint
from tests.stores.samples import NOON

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the published example of the standard
OTHER_SECRET = "whsec_QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="  # noqa: S105  of these tests
TERMINAL = ("run.completed", "run.failed", "run.cancelled", "run.timed_out")


def an_endpoint(endpoint_id: str = "e1", **changes: Any) -> Endpoint:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "url": "https://example.com/hook",
        "target": "t1 https://example.com:443",
        "events": TERMINAL,
        "secret": SECRET,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Endpoint(id=endpoint_id, **(fields | changes))


def a_delivery(delivery_id: str = "msg_1", **changes: Any) -> Delivery:
    fields: dict[str, Any] = {
        "endpoint_id": "e1",
        "tenant": "t1",
        "target": "t1 https://example.com:443",
        "event": "webhook.test",
        "next_attempt_at": NOON,
        "created_at": NOON,
    }
    return Delivery(id=delivery_id, **(fields | changes))
