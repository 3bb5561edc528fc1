"""How operations document their answers: OpenAPI response objects with examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from starlette.responses import Response

from app.api.problems import PROBLEM_JSON, TYPE_PREFIX
from app.api.v1.schemas.problems import ProblemDocument
from app.services.idempotency import Answer

Responses = dict[int | str, dict[str, Any]]

REPLAYED: Final = "Idempotency-Replayed"
_HEADERS: Final[Mapping[str, str]] = {
    "Location": "Where the created resource is",
    "Retry-After": "Seconds to wait before the next request",
    "Preference-Applied": "The preference that was honoured (RFC 7240)",
    REPLAYED: "`true` if this answer was given before, under the same key",
    "ETag": "Changes with the resource",
    "Link": "The next page (RFC 8288)",
    "Allow": "Methods that are allowed here",
}
_TITLES: Final[Mapping[int, tuple[str, str, str]]] = {
    400: ("malformed_body", "The request cannot be read", "the body cannot be read: not JSON"),
    403: ("permission_denied", "Not allowed", "'ci' lacks the permission 'runs:submit'"),
    404: ("run_not_found", "Not found", "there is no run '0197…'; list the runs to find its id"),
    406: ("not_acceptable", "Not acceptable", "accept text/event-stream or application/x-ndjson"),
    409: ("conflict", "Conflict with the present state", "the run has ended; there is nothing to cancel"),
    410: ("approval_expired", "Gone", "the approval waits for no answer any more; read its run to see why"),
    412: ("version_mismatch", "The resource has changed", "read it again and send its ETag"),
    413: ("content_too_large", "The body is too large", "bodies may have at most 1,048,576 bytes; send less"),
    415: (
        "unsupported_media_type",
        "Unsupported Media Type",
        "send the body with Content-Type: application/json",
    ),
    422: ("invalid_request", "The request cannot be accepted", "3 things have to be mended"),
    429: ("too_many_runs", "Too many runs are waiting", "10000 runs are waiting already; try again later"),
    503: ("draining", "The service cannot do this now", "the service is shutting down; try again later"),
}


def success(
    description: str,
    model: type[BaseModel],
    example: Any,
    *,
    headers: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A JSON answer."""
    return {
        "description": description,
        "model": model,
        "content": {"application/json": {"example": example}},
        "headers": _headers(headers),
    }


def bodyless(description: str, *, headers: tuple[str, ...] = ()) -> dict[str, Any]:
    """An answer without a body."""
    return {"description": description, "headers": _headers(headers)}


def problems(*statuses: int) -> Responses:
    """The refusals of an operation."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    code, title, detail = _TITLES[status]
    example = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "instance": "/v1/runs",
        "code": code,
        "errors": [],
        "request_id": "0197d6a0-7c1e-7000-8000-000000000000",
    }
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        "description": title,
        "content": {PROBLEM_JSON: {"schema": schema, "example": example}},
        "headers": _headers(("Retry-After",) if status in (429, 503) else ()),
    }


def _headers(names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"description": _HEADERS[name], "schema": {"type": "string"}} for name in names}


def answer_response(answer: Answer, *, replayed: bool, media_type: str) -> Response:
    """A stored or fresh answer as it goes out."""
    headers = dict(answer.headers)
    if replayed:
        headers[REPLAYED] = "true"
    return Response(answer.body, answer.status_code, headers=headers, media_type=media_type)
