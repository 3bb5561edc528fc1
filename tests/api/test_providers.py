"""What is configured and how it fares, over HTTP: all of it, and nothing that is secret."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from app.api.v1.schemas.providers import ProviderList
from app.observability.recorder import NoMetrics
from app.observability.tracing import NullTracer
from app.ports.errors import TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.ports.provider_status import Bounds
from app.providers.breaker import BreakerPolicy
from app.providers.echo import EchoConfig
from app.providers.openai.adapter import OpenAIConfig
from app.providers.registry import Providers, connect
from app.providers.statuses import Statuses, WatchedDatabase
from app.providers.wrapping import InstanceTerms, Wrapping
from app.security.egress import EgressPolicy
from app.services.principal import Principal
from tests.api.harness import Api, api, problem

KEY = "sk-canary-4711"
CALL = CallContext(run_id="r", path="p", attempt=1, idempotency_key="k", timeout_seconds=5)


@pytest.fixture
def wrapping() -> Wrapping:
    return Wrapping(recorder=NoMetrics(), tracer=NullTracer(), breaker=BreakerPolicy(min_calls=2))


@pytest.fixture
async def providers(wrapping: Wrapping, unused_tcp_port: int) -> AsyncIterator[Providers]:
    closed = f"http://127.0.0.1:{unused_tcp_port}/v1"
    providers = connect(
        [
            OpenAIConfig(name="own", base_url=closed, api_key=SecretStr(KEY), headers={"x-key": KEY}),
            EchoConfig(name="echo"),
        ],
        policy=EgressPolicy(),
        vectors={},
        wrapping=wrapping,
        terms={
            "own": InstanceTerms(
                vendor="openai",
                bounds=Bounds(max_concurrency=9, requests_per_minute=600),
                models={"big": Bounds(tokens_per_minute=1000)},
            ),
            "echo": InstanceTerms(vendor="echo"),
        },
    )
    yield providers
    await providers.aclose()


@pytest.fixture
async def service(providers: Providers, wrapping: Wrapping) -> AsyncIterator[Api]:
    guard = wrapping.guard("qdrant-main", InstanceTerms(bounds=Bounds(max_concurrency=4)))
    guard.lane("")
    databases = [
        WatchedDatabase(name="qdrant-main", vendor="qdrant", hybrid=True, guard=guard),
        WatchedDatabase(name="embedded", vendor="embedded"),
    ]
    async with api(providers=Statuses(providers.instances, databases)) as it:
        yield it


async def listed(service: Api) -> dict[str, Any]:
    answer = await service.client.get("/v1/providers")
    assert answer.status_code == 200, answer.text
    assert KEY not in answer.text
    ProviderList.model_validate_json(answer.content)
    found: dict[str, Any] = answer.json()
    return found


async def test_who_may_not_read_providers_is_refused() -> None:
    async with api(principal=Principal(tenant="t", subject="nobody", roles=frozenset())) as service:
        refused = problem(await service.client.get("/v1/providers"), 403, "permission_denied")
        assert "providers:read" in refused.detail


async def test_a_model_whose_breaker_is_open_is_shown_with_its_last_failure(
    service: Api, providers: Providers
) -> None:
    for _ in range(3):
        with pytest.raises(TemporaryError):
            await providers.chat("own").complete(ChatRequest(model="m", messages=[]), CALL)
    own = (await listed(service))["providers"][1]
    big, model = own["models"]
    assert model["breaker"]["state"] == "open"
    assert 0 < model["breaker"]["retry_after_seconds"] <= 5
    assert (model["model"], model["calls"], model["in_flight"], model["waiting"]) == ("m", 2, 0, 0)
    assert model["last_failure"]["error_class"] == "connection"
    assert model["last_failure"]["at"].startswith(time.strftime("%Y-%m-%dT", time.gmtime()))
    assert (big["model"], big["calls"], big["last_failure"]) == ("big", 0, None)
    assert big["limits"] == {"max_concurrency": None, "requests_per_minute": None, "tokens_per_minute": 1000}


async def test_instances_and_databases_are_listed_by_name_with_what_they_can_do(service: Api) -> None:
    found = await listed(service)
    assert [
        (it["name"], it["vendor"], it["state"], it["operations"], it["limits"]["max_concurrency"])
        for it in found["providers"]
    ] == [
        ("echo", "echo", "configured", ["chat", "embed", "rerank"], None),
        ("own", "openai", "keyless", ["chat", "embed"], 9),
    ]
    embedded, qdrant = found["databases"]
    assert embedded == {
        "name": "embedded",
        "vendor": "embedded",
        "operations": ["search", "upsert", "delete"],
        "limits": dict.fromkeys(("max_concurrency", "requests_per_minute", "tokens_per_minute")),
        "calls": None,
    }
    assert qdrant["operations"] == ["search", "upsert", "delete", "hybrid"]
    assert qdrant["limits"]["max_concurrency"] == 4
    assert qdrant["calls"]["breaker"] == {"state": "closed", "retry_after_seconds": 0}


async def test_what_calls_nobody_has_no_breaker(service: Api, providers: Providers) -> None:
    for _ in range(5):
        with pytest.raises(TemporaryError):
            await providers.chat("echo").complete(ChatRequest(model="fail:server_error", messages=[]), CALL)
    (model,) = (await listed(service))["providers"][0]["models"]
    assert (model["breaker"], model["calls"]) == (None, 5)
