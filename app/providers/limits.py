"""At most so many calls at once to an instance; the others wait in the order they came.

A wrapper around the ports of `app.ports.models`. All of an instance share one `Slots`, because the vendor
counts them together. A stream holds its slot until it ends. Time spent waiting belongs to the attempt's
own timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

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
)
from app.providers.streams import ended

Slots = asyncio.Semaphore
"""First come, first served; a waiter that is cancelled leaves the queue."""


class LimitedChat:
    """A `ChatModel` whose calls wait for a slot."""

    def __init__(self, inner: ChatModel, slots: Slots) -> None:
        self._inner = inner
        self._slots = slots

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        async with self._slots:
            return await self._inner.complete(request, context)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`."""
        async with self._slots, ended(self._inner.stream(request, context)) as items:
            async for item in items:
                yield item


class LimitedEmbedder:
    """An `Embedder` whose calls wait for a slot."""

    def __init__(self, inner: Embedder, slots: Slots) -> None:
        self._inner = inner
        self._slots = slots
        self.max_batch = inner.max_batch

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        async with self._slots:
            return await self._inner.embed(request, context)


class LimitedReranker:
    """A `Reranker` whose calls wait for a slot."""

    def __init__(self, inner: Reranker, slots: Slots) -> None:
        self._inner = inner
        self._slots = slots
        self.max_documents = inner.max_documents

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """See `Reranker`."""
        async with self._slots:
            return await self._inner.rerank(request, context)
