"""What a webhook says: `{type, timestamp, data}`, made anew from the run at every attempt.

It says what happened and where to look, and holds outputs only for endpoints that ask for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from app.ports.runs import RunRow
from app.ports.webhooks import Delivery, Endpoint
from app.services.run_events import RunEvent
from app.services.timestamps import rfc3339, rfc3339_or_none

TEST_EVENT: Final = "webhook.test"
_WITH_ERROR: Final = frozenset({"run.failed", "run.timed_out"})


def test_body(delivery: Delivery, endpoint: Endpoint) -> bytes:
    """The body of the event that only tries an endpoint out."""
    data = {"webhook_id": endpoint.id, "message": "this webhook works"}
    return _body(delivery, data)


def needs_event(delivery: Delivery, endpoint: Endpoint) -> bool:
    """Whether the body says more than the row of the run does."""
    return delivery.event in _WITH_ERROR or (delivery.event == "run.completed" and endpoint.include_outputs)


def run_body(
    delivery: Delivery, endpoint: Endpoint, run: RunRow, event: RunEvent | None, *, max_output_bytes: int
) -> bytes:
    """The body of an event of a run. `event` is the journal's, where `needs_event` asks for it."""
    data: dict[str, Any] = {
        "run_id": run.id,
        "workflow": run.workflow,
        "version": run.version,
        "status": delivery.event.removeprefix("run."),
        "labels": run.labels,
        "created_at": rfc3339(run.created_at),
        "started_at": rfc3339_or_none(run.started_at),
        "finished_at": rfc3339_or_none(run.finished_at),
        "error": event.data.get("error") if event else None,
        "links": _links(run.id),
    }
    if endpoint.include_outputs and delivery.event == "run.completed":
        data |= _outputs(event, max_output_bytes)
    return _body(delivery, data)


def _outputs(event: RunEvent | None, max_bytes: int) -> Mapping[str, Any]:
    outputs = orjson.dumps(event.data.get("outputs") if event else None, option=orjson.OPT_NON_STR_KEYS)
    if len(outputs) > max_bytes:
        return {"outputs": None, "outputs_omitted": True}
    return {"outputs": orjson.Fragment(outputs), "outputs_omitted": False}


def _links(run_id: str) -> Mapping[str, str]:
    path = f"/v1/runs/{run_id}"
    return {"self": path, "events": f"{path}/events"}


def _body(delivery: Delivery, data: Mapping[str, Any]) -> bytes:
    body = {"type": delivery.event, "timestamp": rfc3339(delivery.created_at), "data": data}
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)
