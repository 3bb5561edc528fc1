"""The application factory: routes, middleware order, error handlers. Wiring is the composition root's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import orjson
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from app.api.callers import Callers
from app.api.handlers import install_handlers
from app.api.health import health_router
from app.api.middleware import Admitted, Bounded, Guarded, Identified
from app.api.openapi import openapi_document
from app.api.services import ApiServices
from app.api.v1.approvals import approvals_router
from app.api.v1.batches import batches_router
from app.api.v1.deliveries import deliveries_router
from app.api.v1.event_responses import StreamLimits
from app.api.v1.fixtures import fixtures_router
from app.api.v1.plans import plans_router
from app.api.v1.providers import providers_router
from app.api.v1.run_control import run_control_router
from app.api.v1.run_events import run_events_router
from app.api.v1.run_reading import run_reading_router
from app.api.v1.runs import runs_router
from app.api.v1.schedules import schedules_router
from app.api.v1.submissions import submissions_router
from app.api.v1.usage import usage_router
from app.api.v1.webhooks import webhooks_router
from app.api.v1.workflow_schema import workflow_schema_router
from app.api.v1.workflows import workflows_router
from app.services.principal import Principal

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
OPENAPI_PATH: Final = "/openapi.json"
LOCAL_TENANT: Final = "default"
MAX_BODY_BYTES: Final = 8 * 1024 * 1024
VERSION: Final = "0.1.0"


def local_operator() -> Principal:
    """Who every caller is while callers do not authenticate."""
    return Principal(tenant=LOCAL_TENANT, subject="local", roles=frozenset({"admin"}))


def create_api(
    services: ApiServices,
    *,
    lifespan: Lifespan | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    callers: Callers | None = None,
    streams: StreamLimits | None = None,
    principal: Principal | None = None,
    version: str = VERSION,
) -> FastAPI:
    """The ASGI application. `lifespan` opens and closes what the services stand on.

    Without `callers` only this machine may call, and only under loopback's names.
    """
    app = _bare(version, lifespan, callers or Callers(), max_body_bytes)
    app.state.services = services
    app.state.principal = principal or local_operator()
    app.state.stream_limits = streams or StreamLimits()
    for router in _routers():
        # flat, not included: matching an included router costs twice as much on every request
        app.router.routes.extend(router.routes)
    app.get(OPENAPI_PATH, include_in_schema=False)(_openapi)
    install_handlers(app)
    return app


def create_probes(services: ApiServices, *, callers: Callers) -> FastAPI:
    """Probes and metrics alone, for a process that serves nobody else."""
    app = _bare(VERSION, None, callers, MAX_BODY_BYTES)
    app.state.services = services
    app.router.routes.extend(health_router().routes)
    install_handlers(app)
    return app


def _bare(version: str, lifespan: Lifespan | None, callers: Callers, max_body_bytes: int) -> FastAPI:
    """What every application has: no route, and what stands around all of them."""
    return FastAPI(
        version=version,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own telemetry reads the environment; `app.observability` does this instead
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        middleware=[
            Middleware(Identified),
            Middleware(Guarded),
            Middleware(Admitted, callers=callers),
            Middleware(Bounded, max_body_bytes=max_body_bytes),
        ],
    )


def _routers() -> Iterable[APIRouter]:
    """Every route, those called most first."""
    return (
        submissions_router(),
        batches_router(),
        fixtures_router(),
        runs_router(),
        run_control_router(),
        run_events_router(),
        run_reading_router(),
        usage_router(),
        plans_router(),
        workflows_router(),
        workflow_schema_router(),
        approvals_router(),
        schedules_router(),
        webhooks_router(),
        deliveries_router(),
        providers_router(),
        health_router(),
    )


async def _openapi(request: Request) -> Response:
    return Response(orjson.dumps(openapi_document(request.app)), media_type="application/json")


def openapi_json(app: FastAPI) -> str:
    """The OpenAPI document as it is kept in `docs/`: stable, readable, ends with a newline."""
    document: dict[str, Any] = openapi_document(app)
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode() + "\n"
