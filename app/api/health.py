"""Probes and metrics: `/healthz`, `/readyz`, `/metrics`. Outside `/v1`, for platforms rather than callers.

Liveness asks only whether the event loop turns: a store that is down does not restart the process.
Readiness runs its checks concurrently, each with a time-out of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
import structlog
from fastapi import APIRouter
from starlette.responses import Response

from app.api.responses import success
from app.api.services import NotReady, ReadinessCheck, Services
from app.api.v1.schemas.health import Liveness, Readiness
from app.ports.errors import OrchestratorError

log = structlog.get_logger(__name__)

STALLED_AFTER_SECONDS: Final = 10.0
CHECK_TIMEOUT_SECONDS: Final = 2.0
JSON: Final = "application/json"


def health_router() -> APIRouter:
    """The routes of platforms."""
    # no StrictRoute: what platforms append to the query of a probe is none of its business
    router = APIRouter(tags=["health"])
    router.get(
        "/healthz",
        operation_id="get_liveness",
        summary="Is the event loop alive?",
        response_class=Response,
        responses={
            200: success("It is", Liveness, {"status": "ok", "loop_lag_seconds": 0.001}),
            503: success("It stalls", Liveness, {"status": "stalled", "loop_lag_seconds": 12.5}),
        },
    )(_liveness)
    ready = {"store": {"status": "ok", "detail": None, "seconds": 0.0004}}
    full = {"store": {"status": "failed", "detail": "the disk is full; make room", "seconds": 0.0004}}
    router.get(
        "/readyz",
        operation_id="get_readiness",
        summary="Should this process get traffic?",
        response_class=Response,
        responses={
            200: success("It should", Readiness, {"status": "ready", "checks": ready}),
            503: success("It should not", Readiness, {"status": "not_ready", "checks": full}),
        },
    )(_readiness)
    router.get(
        "/metrics",
        operation_id="get_metrics",
        summary="Metrics in Prometheus' text format",
        response_class=Response,
        responses={200: {"description": "The metrics", "content": _EXPOSITION}},
    )(_metrics)
    # some load balancers probe so
    router.head("/healthz", include_in_schema=False)(_liveness)
    router.head("/readyz", include_in_schema=False)(_readiness)
    return router


_EXPOSITION: Final[dict[str, Any]] = {
    "text/plain": {"schema": {"type": "string"}, "example": "orchestrator_active_workflows 3.0\n"}
}


async def _liveness(services: Services) -> Response:
    """Answers 503 when the event loop has not turned for ten seconds, whatever else is broken."""
    lag = services.probes.loop_lag_seconds()
    alive = lag < STALLED_AFTER_SECONDS
    body = {"status": "ok" if alive else "stalled", "loop_lag_seconds": round(lag, 6)}
    return Response(orjson.dumps(body), 200 if alive else 503, media_type=JSON)


async def _readiness(services: Services) -> Response:
    """Answers 503 while the process drains or one of its checks does not hold; each is listed."""
    checks = services.probes.checks
    results = await asyncio.gather(*(_run(check) for check in checks))
    by_name = dict(zip((check.name for check in checks), results, strict=True))
    draining = services.closing.is_set()
    by_name["draining"] = _result("the process is shutting down" if draining else None, failed=draining)
    ready = all(result["status"] == "ok" for result in by_name.values())
    body = {"status": "ready" if ready else "not_ready", "checks": by_name}
    return Response(orjson.dumps(body), 200 if ready else 503, media_type=JSON)


async def _metrics(services: Services) -> Response:
    """Everything the process counts."""
    body, content_type = services.probes.exposition()
    return Response(body, media_type=content_type)


async def _run(check: ReadinessCheck) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    started = loop.time()
    failed = True
    detail: str | None
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            detail = await check.check()
        failed = False
    except TimeoutError:
        detail = f"no answer within {CHECK_TIMEOUT_SECONDS:g} s"
    except (NotReady, OrchestratorError) as error:
        detail = str(error)
    except Exception:
        # a check that cannot run does not hold, and its reason is for the log
        log.exception("readiness.check_crashed", check=check.name)
        detail = "the check failed; see the log"
    return _result(detail, failed=failed, seconds=loop.time() - started)


def _result(detail: str | None, *, failed: bool, seconds: float = 0.0) -> dict[str, Any]:
    return {"status": "failed" if failed else "ok", "detail": detail, "seconds": round(seconds, 6)}
