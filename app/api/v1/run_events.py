"""A run's events over HTTP."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanReadRuns
from app.api.bodies import StrictRoute
from app.api.negotiation import EVENT_STREAM, NDJSON, stream_type
from app.api.problems import Refused, plain_refusal
from app.api.responses import bodyless, problems
from app.api.services import Services
from app.api.v1 import examples
from app.api.v1.event_responses import EventResponse
from app.api.v1.parameters import LAST_SEQ, RunId, one_of, split
from app.services.run_events import EVENT_TYPES

_EVENT: Final = {"$ref": "#/components/schemas/Event"}
_STREAM: Final[dict[str, Any]] = {
    EVENT_STREAM: {
        "x-itemSchema": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "event": {"type": "string"},
                "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": _EVENT},
                "retry": {"type": "integer", "minimum": 0},
            },
            "required": ["data"],
        },
        "example": examples.EVENT_STREAM,
    },
    NDJSON: {"x-itemSchema": _EVENT, "example": examples.EVENT_LINES},
}
"""Streams are described item by item, by the `itemSchema` of OpenAPI 3.2, which 3.1 takes as an extension."""


def run_events_router() -> APIRouter:
    """The route of event streams."""
    router = APIRouter(route_class=StrictRoute, tags=["runs"])
    router.get(
        "/v1/runs/{run_id}/events",
        operation_id="stream_run_events",
        summary="Follow a run",
        response_class=Response,
        responses={
            200: {"description": "Events as they come; ends after the terminal one", "content": _STREAM},
            204: bodyless("The run has ended and the caller has every event"),
            **problems(403, 404, 406, 422),
        },
    )(_stream_run_events)
    return router


async def _stream_run_events(
    *,
    request: Request,
    services: Services,
    principal: CanReadRuns,
    run_id: RunId,
    after: Annotated[
        int | None, Query(ge=0, lt=10**15, description="Events past this `seq`; wins over `Last-Event-ID`")
    ] = None,
    last_event_id: Annotated[
        str | None,
        Header(alias="Last-Event-ID", pattern=LAST_SEQ, description="Events past this one", examples=["7"]),
    ] = None,
    types: Annotated[
        list[Annotated[str, Field(pattern=one_of(EVENT_TYPES))]] | None,
        Query(description="Only these, by commas or repetition", examples=[["step.completed,run.completed"]]),
    ] = None,
) -> Response:
    """Everything that happened to the run and everything that happens from now on, in the journal's order.

    Server-sent events, or one JSON object a line with `Accept: application/x-ndjson`. A stream that was
    cut goes on after `Last-Event-ID` (or `after`) without gap or duplicate. `step.delta` carries a piece
    of an answer as it is made; deltas have no `seq` and are not repeated.
    """
    media_type = stream_type(request.headers.get("accept"))
    if media_type is None:
        raise Refused(plain_refusal(406, f"accept {EVENT_STREAM} or {NDJSON}"))
    start = after if after is not None else int(last_event_id or 0)
    stream = await services.runs.follow(principal, run_id, after=start)
    if stream is None:
        return Response(status_code=204)
    return EventResponse(
        stream, media_type=media_type, types=split(types), limits=request.app.state.stream_limits
    )
