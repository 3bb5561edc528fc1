"""Instances by name, as steps ask for them."""

from __future__ import annotations

import asyncio
from dataclasses import MISSING, fields
from typing import Any

import pytest
from pydantic import SecretStr

from app.observability.recorder import NoMetrics
from app.observability.tracing import NullTracer
from app.ports.errors import PermanentError
from app.ports.http import HttpRequest
from app.ports.models import CallContext, ChatRequest, EmbedRequest
from app.providers.echo import EchoConfig
from app.providers.instances import VENDORS, Instance, InstanceConfig
from app.providers.openai.adapter import OpenAIConfig
from app.providers.registry import Providers, connect
from app.providers.wrapping import Wrapping
from app.security.egress import EgressPolicy
from tests.simulator.process import Simulator


def outside(*configs: InstanceConfig, **more: Any) -> Providers:
    options: dict[str, Any] = {"policy": EgressPolicy(), "vectors": {}, **more}
    return connect(configs, wrapping=Wrapping(recorder=NoMetrics(), tracer=NullTracer()), **options)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("opneai", "did you mean 'openai'"), ("zzz", "configured are: echo, openai"), ("", "configured are")],
)
def test_an_unknown_instance_is_refused_with_a_hint(name: str, hint: str) -> None:
    providers = outside(OpenAIConfig(name="openai"), EchoConfig())
    for ask in (providers.chat, providers.embedder):
        with pytest.raises(PermanentError, match=hint) as refused:
            ask(name)
        assert refused.value.error_class == "unknown_provider"


def test_an_unknown_database_is_refused() -> None:
    with pytest.raises(PermanentError, match="no vector database 'qdrant'; none is configured"):
        outside().vectors("qdrant")


def test_an_instance_without_embeddings_is_no_embedding_provider() -> None:
    http = outside().http
    providers = Providers(instances=[Instance(name="chatty")], vectors={}, http=http, operator_http=http)
    with pytest.raises(PermanentError, match="no embedding provider 'chatty'"):
        providers.embedder("chatty")


def test_two_instances_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two provider instances are called 'a'"):
        outside(EchoConfig(name="a"), OpenAIConfig(name="a"))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit: int) -> None:
    with pytest.raises(ValueError, match="max_concurrency of instance 'echo'"):
        outside(EchoConfig(max_concurrency=limit))


def needed(config: Any) -> dict[str, Any]:
    """What has no default: a name, and where servers are that have no usual place."""
    known = {"name": config.__name__, "base_url": "http://server.test"}
    return {
        it.name: known.get(it.name, "x")
        for it in fields(config)
        if it.default is MISSING and it.default_factory is MISSING
    } | {"name": config.__name__}


def test_every_vendor_can_be_built_and_does_something() -> None:
    names = [config.__name__ for config in VENDORS]
    providers = outside(*(config(**needed(config)) for config in VENDORS))
    assert [instance.name for instance in providers.instances] == names
    for name in {*providers.chat_names, *providers.embedder_names, *providers.reranker_names}:
        names.remove(name)
    assert not names


async def test_instances_of_one_vendor_are_apart(simulator: Simulator, context: CallContext) -> None:
    key = SecretStr("key-of-a")
    a = OpenAIConfig(name="a", base_url=simulator.base_url, api_key=key, max_concurrency=2)
    providers = outside(a, OpenAIConfig(name="b", base_url=simulator.base_url))
    await providers.warm()
    request = ChatRequest(model="sim", messages=[])
    assert (await providers.chat("a").complete(request, context)).text == "The simulated answer."
    assert simulator.stats().last_headers["authorization"] == "Bearer key-of-a"
    assert (await providers.embedder("b").embed(EmbedRequest(model="e", texts=["x"]), context)).vectors
    assert "authorization" not in simulator.stats().last_headers
    await providers.aclose()
    await asyncio.to_thread(simulator.wait, open_at_most=1)


async def test_an_instances_limit_holds_on_the_wire(simulator: Simulator, context: CallContext) -> None:
    config = OpenAIConfig(name="a", base_url=simulator.base_url, max_concurrency=3)
    providers = outside(config)
    simulator.control(latency_ms=5)
    try:
        request = ChatRequest(model="sim", messages=[])
        await asyncio.gather(*(providers.chat("a").complete(request, context) for _ in range(30)))
    finally:
        simulator.control(latency_ms=0)
        await providers.aclose()
    stats = simulator.stats()
    assert (stats.answered, stats.max_in_flight) == (30, 3)


async def test_documents_go_through_the_policy_and_the_operators_webhook_does_not(
    simulator: Simulator,
) -> None:
    providers = outside(action_webhook=f"{simulator.url}/hook")
    with pytest.raises(PermanentError, match="inside the network"):
        await providers.http.send(HttpRequest(method="GET", url=f"{simulator.url}/other"))
    assert providers.action_webhook is not None
    request = HttpRequest(method="POST", url=providers.action_webhook)
    assert (await providers.operator_http.send(request)).status == 200
    assert simulator.stats().calls == 1
    await providers.aclose()
