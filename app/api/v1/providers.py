"""What the operator configured and how it fares, over HTTP."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from app.api.auth import CanReadProviders
from app.api.bodies import StrictRoute
from app.api.responses import problems, success
from app.api.services import Services
from app.api.v1.rendering import JSON
from app.api.v1.schemas.providers import ProviderList
from app.ports.provider_status import Bounds, CallsStatus, ProviderStatus
from app.services.providers import ProviderOverview, ProviderView
from app.services.timestamps import rfc3339

_UNBOUNDED: Final[dict[str, Any]] = {
    "max_concurrency": None,
    "requests_per_minute": None,
    "tokens_per_minute": None,
}
PROVIDERS: Final[dict[str, Any]] = {
    "providers": [
        {
            "name": "openai",
            "vendor": "openai",
            "state": "configured",
            "operations": ["chat", "embed"],
            "limits": {"max_concurrency": 256, "requests_per_minute": 500, "tokens_per_minute": None},
            "models": [
                {
                    "model": "gpt-4o-mini",
                    "limits": _UNBOUNDED,
                    "breaker": {"state": "open", "retry_after_seconds": 7.5},
                    "in_flight": 0,
                    "waiting": 3,
                    "calls": 1207,
                    "last_failure": {"error_class": "server_error", "at": "2026-01-05T09:30:00.000Z"},
                }
            ],
        }
    ],
    "databases": [
        {
            "name": "embedded",
            "vendor": "embedded",
            "operations": ["search", "upsert", "delete"],
            "limits": _UNBOUNDED,
            "calls": None,
        }
    ],
}


def providers_router() -> APIRouter:
    """The routes of providers."""
    router = APIRouter(route_class=StrictRoute, tags=["providers"])
    router.get(
        "/v1/providers",
        operation_id="list_providers",
        summary="List model providers and vector databases",
        response_class=Response,
        responses={
            200: success("What is configured, and how calls to it fare", ProviderList, PROVIDERS),
            **problems(403, 422),
        },
    )(_list_providers)
    return router


async def _list_providers(services: Services, principal: CanReadProviders) -> Response:
    """What each can do, its limits, and by model the circuit breaker, calls in flight and calls that wait.

    Counts are of the process that answers, since it started. Keys and URLs are never told.
    """
    return Response(render_providers(services.providers.overview()), media_type=JSON)


def render_providers(overview: ProviderOverview) -> bytes:
    """`ProviderList`."""
    body = {
        "providers": [_provider(view) for view in overview.models],
        "databases": [_database(status) for status in overview.databases],
    }
    return orjson.dumps(body)


def _provider(view: ProviderView) -> dict[str, Any]:
    status = view.status
    return {
        "name": status.name,
        "vendor": status.vendor,
        "state": "keyless" if view.keyless else "configured",
        "operations": status.operations,
        "limits": _limits(status.bounds),
        "models": [
            {"model": calls.name, "limits": _limits(calls.bounds), **_calls(calls)} for calls in status.calls
        ],
    }


def _database(status: ProviderStatus) -> dict[str, Any]:
    return {
        "name": status.name,
        "vendor": status.vendor,
        "operations": status.operations,
        "limits": _limits(status.bounds),
        "calls": _calls(status.calls[0]) if status.calls else None,
    }


def _calls(calls: CallsStatus) -> dict[str, Any]:
    breaker, failure = calls.breaker, calls.last_failure
    return {
        "breaker": None
        if breaker is None
        else {"state": breaker.state, "retry_after_seconds": round(breaker.retry_after, 3)},
        "in_flight": calls.in_flight,
        "waiting": calls.waiting,
        "calls": calls.calls,
        "last_failure": None
        if failure is None
        else {"error_class": failure.error_class, "at": rfc3339(failure.at)},
    }


def _limits(bounds: Bounds) -> dict[str, Any]:
    return {
        "max_concurrency": bounds.max_concurrency,
        "requests_per_minute": bounds.requests_per_minute,
        "tokens_per_minute": bounds.tokens_per_minute,
    }
