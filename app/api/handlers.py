"""From exceptions to problems: the one place where the API layer meets the error trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.problems import (
    ParameterProblem,
    Refusal,
    Refused,
    plain_refusal,
    problem_response,
    refusal_of,
)
from app.ports.errors import OrchestratorError
from app.ports.problems import Problem, pointer
from app.services.errors import translate

log = structlog.get_logger(__name__)

MAX_ERRORS = 100


def install_handlers(app: FastAPI) -> None:
    """Make every error of the app a problem."""
    app.add_exception_handler(OrchestratorError, _service_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)


async def _service_error(request: Request, error: Exception) -> Response:
    refused = translate(error) if isinstance(error, OrchestratorError) else None
    if refused is None:
        raise error
    if refused.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error(
            "request.crashed", method=request.method, path=request.url.path, code=refused.code, exc_info=error
        )
    return problem_response(refusal_of(refused), request.scope)


async def _http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, Refused):
        return problem_response(error.refusal, request.scope)
    if not isinstance(error, HTTPException):
        raise error
    match error.status_code:
        case 404:
            refusal = plain_refusal(404, "there is nothing at this path; see /openapi.json for what there is")
        case 405:
            allowed = _allowed_methods(request)
            detail = f"{request.method} is not allowed here; use {allowed}"
            refusal = plain_refusal(405, detail, {"Allow": allowed})
        case status:
            refusal = plain_refusal(status, str(error.detail), error.headers)
    return problem_response(refusal, request.scope)


def _allowed_methods(request: Request) -> str:
    """The methods of every route of this path (RFC 9110, 10.2.1); the router knows only the first one's."""
    found: Route = request.scope["route"]
    methods: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.path == found.path:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))


async def _invalid_request(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    errors = [_entry(entry) for entry in found[:MAX_ERRORS]]
    refusal = Refusal(
        status=422,
        code="invalid_request",
        title="The request does not fit its schema",
        detail=_summary(errors),
        errors=errors,
    )
    return problem_response(refusal, request.scope)


def _summary(errors: Sequence[Problem | ParameterProblem]) -> str:
    if len(errors) != 1:
        return f"{len(errors)} things have to be mended; each is listed under errors"
    error = errors[0]
    if isinstance(error, ParameterProblem):
        return f"the {error.location} parameter {error.parameter!r}: {error.detail}"
    return f"{error.pointer or 'the body'}: {error.detail}"


def _entry(entry: Mapping[str, Any]) -> Problem | ParameterProblem:
    where, *parts = entry["loc"]
    detail = (
        "is missing" if entry["type"] == "missing" else str(entry["msg"]).replace("Input should", "should")
    )
    if where == "body":
        return Problem(pointer=pointer(*parts), detail=detail)
    return ParameterProblem(parameter=str(parts[0]) if parts else "", location=str(where), detail=detail)
