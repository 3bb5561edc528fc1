"""From exceptions to problems: the one place where the API layer meets the error trees."""

from __future__ import annotations

from http import HTTPStatus

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.problems import (
    Refused,
    invalid_request,
    plain_refusal,
    problem_response,
    refusal_of,
)
from app.api.wording import request_errors
from app.ports.errors import OrchestratorError
from app.services.errors import translate

log = structlog.get_logger(__name__)


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
    found, body = (error.errors(), error.body) if isinstance(error, RequestValidationError) else ([], None)
    errors = request_errors(found, body, request.scope.get("route"))
    return problem_response(invalid_request(errors), request.scope)
