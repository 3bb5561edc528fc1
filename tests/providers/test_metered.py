"""What is counted and traced about calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import Metrics
from app.observability.tracing import NullTracer
from app.ports.errors import TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult, Usage
from app.providers.echo import Echo, EchoConfig
from app.providers.metered import Meter, MeteredChat, MeteredEmbedder

USAGE = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)


class Vendor:
    """Answers with every count, hangs, or has a defect."""

    max_batch = 3
    max_batch_tokens: int | None = 30

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        if request.model == "hang":
            await asyncio.Event().wait()
        if request.model == "defect":
            raise ZeroDivisionError
        return ChatResult(text="x", model="m-1", finish_reason="stop", usage=USAGE)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        yield ChatDelta(text="x")
        yield await self.complete(request, context)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        return EmbedResult(vectors=[[1.0]], model="m-1", usage=Usage(input_tokens=3))


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def meter(registry: CollectorRegistry) -> Meter:
    return Meter("main", Metrics(registry), NullTracer())


def calls(registry: CollectorRegistry, model: str, status: str) -> float | None:
    labels = {"provider": "main", "model": model, "status": status}
    return registry.get_sample_value("orchestrator_llm_requests_total", labels)


def tokens(registry: CollectorRegistry, kind: str) -> float | None:
    labels = {"provider": "main", "model": "m", "type": kind}
    return registry.get_sample_value("orchestrator_llm_tokens_total", labels)


def ask(model: str = "m") -> ChatRequest:
    return ChatRequest(model=model, messages=[])


async def test_a_failure_is_counted_by_its_class(
    registry: CollectorRegistry, meter: Meter, context: CallContext
) -> None:
    failing = MeteredChat(Echo(EchoConfig()), meter)
    with pytest.raises(TemporaryError):
        await failing.complete(ask("fail:rate_limit"), context)
    assert calls(registry, "fail:rate_limit", "rate_limit") == 1
    labels = {"error_type": "rate_limit", "component": "provider"}
    assert registry.get_sample_value("orchestrator_errors_total", labels) == 1


async def test_a_defect_is_counted_as_internal_and_raised(
    registry: CollectorRegistry, meter: Meter, context: CallContext
) -> None:
    with pytest.raises(ZeroDivisionError):
        await MeteredChat(Vendor(), meter).complete(ask("defect"), context)
    assert calls(registry, "defect", "internal") == 1


async def test_a_cancelled_call_is_counted_as_cancelled(
    registry: CollectorRegistry, meter: Meter, context: CallContext
) -> None:
    task = asyncio.create_task(MeteredChat(Vendor(), meter).complete(ask("hang"), context))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls(registry, "hang", "cancelled") == 1


async def test_a_stream_that_is_left_is_counted_as_cancelled(
    registry: CollectorRegistry, meter: Meter, context: CallContext
) -> None:
    stream: Any = MeteredChat(Vendor(), meter).stream(ask(), context)
    await anext(stream)
    await stream.aclose()
    assert calls(registry, "m", "cancelled") == 1


async def test_answers_are_counted_with_their_tokens(
    registry: CollectorRegistry, meter: Meter, context: CallContext
) -> None:
    chat = MeteredChat(Vendor(), meter)
    await chat.complete(ask(), context)
    assert [item.text async for item in chat.stream(ask(), context)] == ["x", "x"]
    assert calls(registry, "m", "success") == 2
    counted = {kind: tokens(registry, kind) for kind in ("input", "output", "cached", "reasoning")}
    assert counted == {"input": 20, "output": 10, "cached": 8, "reasoning": 4}


async def test_embeddings_are_counted_too(
    registry: CollectorRegistry, meter: Meter, context: CallContext
) -> None:
    embedder = MeteredEmbedder(Vendor(), meter)
    await embedder.embed(EmbedRequest(model="m", texts=["a"]), context)
    assert (embedder.max_batch, embedder.max_batch_tokens) == (3, 30)
    assert calls(registry, "m", "success") == 1
    assert (tokens(registry, "input"), tokens(registry, "output")) == (3, None)
