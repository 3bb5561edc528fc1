"""Counts and traces calls to models. A wrapper around the ports of `app.ports.models`.

Labels are the instance's name and the model that was asked for; the status is `success`, the error's
class, or `cancelled`. Nothing of prompts and answers goes anywhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from app.observability.tracing import CallSpan, Operation, Tracer
from app.ports.errors import CallError
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatModel,
    ChatRequest,
    ChatResult,
    Embedder,
    EmbedRequest,
    EmbedResult,
    Reranker,
    RerankRequest,
    RerankResult,
    Usage,
)
from app.providers.streams import ended


class CallRecorder(Protocol):
    """What is counted about calls; a part of `app.observability.recorder.Recorder`."""

    def llm_request(self, provider: str, model: str, status: str, seconds: float) -> None:
        """A call ended."""
        ...

    def llm_tokens(self, provider: str, model: str, type: str, count: int) -> None:
        """Tokens were billed; type `input`, `output`, `cached` or `reasoning`."""
        ...

    def error(self, error_type: str, component: str) -> None:
        """A call failed."""
        ...


class Meter:
    """Observes the calls of one instance."""

    def __init__(self, provider: str, recorder: CallRecorder, tracer: Tracer) -> None:
        self._provider = provider
        self._recorder = recorder
        self._tracer = tracer

    def call(self, operation: Operation, model: str) -> AbstractContextManager[CallSpan]:
        """One call: from here to the end of the block."""
        span = self._tracer.call(operation, self._provider, model)
        return _Call(self._recorder, span, self._provider, model)

    def billed(self, model: str, usage: Usage) -> None:
        """Count the tokens of an answer."""
        count = self._recorder.llm_tokens
        if usage.input_tokens:
            count(self._provider, model, "input", usage.input_tokens)
        if usage.output_tokens:
            count(self._provider, model, "output", usage.output_tokens)
        if usage.cached_tokens:
            count(self._provider, model, "cached", usage.cached_tokens)
        if usage.reasoning_tokens:
            count(self._provider, model, "reasoning", usage.reasoning_tokens)


class _Call:
    """One call under way. A class, because a generator as context manager costs three times as much."""

    __slots__ = ("_model", "_provider", "_recorder", "_span", "_started")

    def __init__(
        self, recorder: CallRecorder, span: AbstractContextManager[CallSpan], provider: str, model: str
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._provider = provider
        self._model = model

    def __enter__(self) -> CallSpan:
        self._started = time.perf_counter()
        return self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            self._count(error)

    def _count(self, error: BaseException | None) -> None:
        status = status_of(error)
        if isinstance(error, CallError):
            self._recorder.error(status, "provider")
        self._recorder.llm_request(self._provider, self._model, status, time.perf_counter() - self._started)


def status_of(error: BaseException | None) -> str:
    """How a call ended: `success`, the error's class, `cancelled`, or `internal` for a defect."""
    if error is None:
        return "success"
    if isinstance(error, CallError):
        return error.error_class
    return "cancelled" if isinstance(error, (asyncio.CancelledError, GeneratorExit)) else "internal"


class MeteredChat:
    """A `ChatModel` whose calls are observed."""

    def __init__(self, inner: ChatModel, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        with self._meter.call("chat", request.model) as span:
            result = await self._inner.complete(request, context)
            self._note(span, request, result)
        return result

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. The duration is that of the whole stream."""
        with self._meter.call("chat", request.model) as span:
            async with ended(self._inner.stream(request, context)) as items:
                async for item in items:
                    if isinstance(item, ChatResult):
                        self._note(span, request, item)
                    yield item

    def _note(self, span: CallSpan, request: ChatRequest, result: ChatResult) -> None:
        span.answered(model=result.model, finish_reason=result.finish_reason, usage=result.usage)
        self._meter.billed(request.model, result.usage)


class MeteredEmbedder:
    """An `Embedder` whose calls are observed."""

    def __init__(self, inner: Embedder, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter
        self.max_batch = inner.max_batch
        self.max_batch_tokens = inner.max_batch_tokens

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        with self._meter.call("embeddings", request.model) as span:
            result = await self._inner.embed(request, context)
            span.answered(model=result.model, usage=result.usage)
            self._meter.billed(request.model, result.usage)
        return result


class MeteredReranker:
    """A `Reranker` whose calls are observed."""

    def __init__(self, inner: Reranker, meter: Meter) -> None:
        self._inner = inner
        self._meter = meter
        self.max_documents = inner.max_documents

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """See `Reranker`."""
        with self._meter.call("rerank", request.model) as span:
            result = await self._inner.rerank(request, context)
            span.answered(model=result.model, usage=result.usage)
            self._meter.billed(request.model, result.usage)
        return result
