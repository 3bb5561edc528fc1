"""Errors on the wire: `application/problem+json` (RFC 9457) for every refusal and every fault.

The members are `type, title, status, detail, instance, code, errors, request_id`. A fault of the service
tells its request id and nothing else: no stack, no message of an exception, no path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from app.ports.problems import Problem
from app.services.errors import ServiceError

PROBLEM_JSON: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:llm-orchestrator:problem:"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterProblem:
    """One parameter of the request to mend. `location` is path, query or header."""

    parameter: str
    location: str
    detail: str
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A problem before it is written."""

    status: int
    code: str
    title: str
    detail: str
    errors: Sequence[Problem | ParameterProblem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(HTTPException):
    """A refusal by the API layer itself. An `HTTPException`, because FastAPI lets only these through."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.detail, dict(refusal.headers))
        self.refusal = refusal


def refusal_of(error: ServiceError) -> Refusal:
    """A service's refusal as a problem."""
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    return Refusal(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=str(error),
        errors=error.problems,
        headers=headers,
    )


def plain_refusal(status: int, detail: str | None, headers: Mapping[str, str] | None = None) -> Refusal:
    """A refusal that only has an HTTP status."""
    phrase = HTTPStatus(status).phrase
    return Refusal(
        status=status,
        code=phrase.lower().replace(" ", "_").replace("-", "_"),
        title=phrase,
        detail=detail or phrase,
        headers=headers or {},
    )


def invalid_request(errors: Sequence[Problem | ParameterProblem]) -> Refusal:
    """A request that does not fit its schema, and why."""
    detail = f"{len(errors)} things have to be mended; each is listed under errors"
    if len(errors) == 1:
        detail = "; ".join(filter(None, (errors[0].detail, errors[0].hint)))
    return Refusal(
        status=422,
        code="invalid_request",
        title="The request does not fit its schema",
        detail=detail,
        errors=errors,
    )


def problem_response(refusal: Refusal, scope: Scope) -> Response:
    """The response that carries a refusal."""
    body: dict[str, Any] = {
        "type": TYPE_PREFIX + refusal.code,
        "title": refusal.title,
        "status": refusal.status,
        "detail": _printable(refusal.detail),
        "instance": _printable(scope.get("raw_path", b"").decode("ascii", "replace") or scope["path"]),
        "code": refusal.code,
        "errors": [problem_entry(error) for error in refusal.errors],
        "request_id": scope.get("state", {}).get("request_id"),
    }
    return Response(
        orjson.dumps(body), refusal.status, headers=dict(refusal.headers), media_type=PROBLEM_JSON
    )


def problem_entry(error: Problem | ParameterProblem) -> dict[str, Any]:
    """One thing to mend, as it is written."""
    entry: dict[str, Any]
    if isinstance(error, ParameterProblem):
        entry = {"parameter": _printable(error.parameter), "in": error.location}
    else:
        entry = {"pointer": _printable(error.pointer)}
        if error.line is not None:
            entry["line"] = error.line
        if error.column is not None:
            entry["column"] = error.column
    entry["detail"] = _printable(error.detail)
    if error.hint is not None:
        entry["hint"] = _printable(error.hint)
    return entry


def _printable(text: str) -> str:
    """Text that JSON can carry: a path or a message may hold halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode()
