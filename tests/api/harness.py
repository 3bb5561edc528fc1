"""The API in process: real services, the in-memory store, the embedded engine, a scripted model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import FastAPI

from app.api.app import create_api
from app.api.assembly import Parts, UseCases
from app.api.callers import Callers
from app.api.services import ApiServices, Probes, ReadinessCheck
from app.api.v1.event_responses import StreamLimits
from app.api.v1.schemas.problems import ProblemDocument
from app.engines.account import Accounting
from app.engines.embedded import EngineLimits
from app.ports.lock import ExecutorLock
from app.ports.prices import Prices
from app.ports.provider_status import ProviderStatuses
from app.providers.statuses import Statuses
from app.security.redaction import Redactor
from app.services.configured import Configured
from app.services.principal import Principal
from app.services.webhook_rules import WebhookRules
from tests.engines.harness import Bench, Script, WallClock, answer_at_once, bench

PROVIDER_SECRET = "canary-of-a-provider-4711"  # noqa: S105  no credential of anybody
SERVICE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105  the published example of the standard


@dataclass
class Api:
    """One service under test."""

    app: FastAPI
    client: httpx.AsyncClient
    bench: Bench
    services: ApiServices

    async def run(self, document: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Submit a document and wait for its end."""
        answer = await self.client.post("/v1/runs?wait=10", json={"workflow": document, **more})
        assert answer.status_code == 200, answer.text
        finished: dict[str, Any] = answer.json()
        return finished


def services_of(
    bench: Bench,
    *,
    checks: Sequence[ReadinessCheck] = (),
    lag: float = 0.0,
    providers: ProviderStatuses | None = None,
) -> ApiServices:
    """Services over an engine."""
    parts = Parts(
        store=bench.store,
        engine=bench.engine,
        catalog=bench.catalog,
        renderer=bench.renderer,
        clock=WallClock(),
        prices=bench.prices,
        accounting=Accounting(prices=bench.prices, max_tokens=50),
        configured=Configured(
            providers=frozenset({"own"}), databases=frozenset({"embedded"}), keyless=frozenset({"own"})
        ),
        providers=providers or Statuses([], []),
        webhook_rules=WebhookRules(default_secret=SERVICE_SECRET),
        redactor=Redactor([PROVIDER_SECRET]),
    )
    probes = Probes(
        loop_lag_seconds=lambda: lag,
        checks=checks,
        exposition=lambda: (b"up 1\n", "text/plain; version=0.0.4; charset=utf-8"),
    )
    return UseCases(parts).behind(probes)


@asynccontextmanager
async def api(
    *,
    script: Script = answer_at_once,
    limits: EngineLimits | None = None,
    lock: ExecutorLock | None = None,
    checks: Sequence[ReadinessCheck] = (),
    lag: float = 0.0,
    max_body_bytes: int = 1_000_000,
    streams: StreamLimits | None = None,
    principal: Principal | None = None,
    prices: Prices | None = None,
    providers: ProviderStatuses | None = None,
) -> AsyncIterator[Api]:
    """A served API; unexpected exceptions become answers, as they do in production."""
    async with bench(script=script, limits=limits, lock=lock, prices=prices) as engine:
        services = services_of(engine, checks=checks, lag=lag, providers=providers)
        app = create_api(
            services,
            max_body_bytes=max_body_bytes,
            streams=streams,
            principal=principal,
            callers=Callers(allowed_hosts=["test"]),
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Api(app=app, client=client, bench=engine, services=services)


async def approval_of(it: Api, document: dict[str, Any]) -> dict[str, Any]:
    """Submit a run that asks; the approval."""
    run = (await it.client.post("/v1/runs", json={"workflow": document})).json()
    async with asyncio.timeout(5):
        while True:
            found = (await it.client.get("/v1/approvals", params={"run_id": run["id"]})).json()["data"]
            if found:
                approval: dict[str, Any] = found[0]
                return approval
            await asyncio.sleep(0.01)


def problem(answer: httpx.Response, status: int, code: str) -> ProblemDocument:
    """The answer is that problem, and is written as its schema says."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = ProblemDocument.model_validate(answer.json())
    assert (body.status, body.code) == (status, code)
    assert body.request_id == answer.headers["x-request-id"]
    return body
