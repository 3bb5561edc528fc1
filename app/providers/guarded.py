"""Calls to models behind a guard: within the bounds, and not while a circuit breaker rests.

Wrappers around the ports of `app.ports.models`. All of an instance share one `Guard`, because the vendor
counts them together. A stream holds its place until it ends. What a call costs in tokens is estimated
before it and corrected by what the vendor counted; a call that failed keeps what was estimated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final

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
from app.providers.guard import Guard
from app.providers.streams import ended

CHARS_PER_TOKEN: Final = 4
"""What English text comes to with most tokenizers."""
ANSWER_TOKENS: Final = 256
"""Taken for an answer whose length nobody bounds."""


class GuardedChat:
    """A `ChatModel` behind a guard."""

    def __init__(self, inner: ChatModel, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        guard = self._guard
        lane = guard.lane(request.model)
        tokens = _of_chat(request) if guard.counts_tokens else 0
        with guard.begin(lane, tokens, context) or await guard.wait(lane, tokens, context) as call:
            result = await self._inner.complete(request, call.context)
            call.usage = result.usage
        return result

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`."""
        guard = self._guard
        lane = guard.lane(request.model)
        tokens = _of_chat(request) if guard.counts_tokens else 0
        with guard.begin(lane, tokens, context) or await guard.wait(lane, tokens, context) as call:
            async with ended(self._inner.stream(request, call.context)) as items:
                async for item in items:
                    call.item()
                    if isinstance(item, ChatResult):
                        call.usage = item.usage
                    yield item


class GuardedEmbedder:
    """An `Embedder` behind a guard."""

    def __init__(self, inner: Embedder, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard
        self.max_batch = inner.max_batch
        self.max_batch_tokens = inner.max_batch_tokens

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        guard = self._guard
        lane = guard.lane(request.model)
        tokens = _of_texts(request.texts) if guard.counts_tokens else 0
        with guard.begin(lane, tokens, context) or await guard.wait(lane, tokens, context) as call:
            result = await self._inner.embed(request, call.context)
            call.usage = result.usage
        return result


class GuardedReranker:
    """A `Reranker` behind a guard."""

    def __init__(self, inner: Reranker, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard
        self.max_documents = inner.max_documents

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """See `Reranker`."""
        guard = self._guard
        lane = guard.lane(request.model)
        tokens = _of_texts((request.query, *request.documents)) if guard.counts_tokens else 0
        with guard.begin(lane, tokens, context) or await guard.wait(lane, tokens, context) as call:
            result = await self._inner.rerank(request, call.context)
            call.usage = result.usage
        return result


def _of_chat(request: ChatRequest) -> int:
    texts: list[str] = []
    for message in request.messages:
        if isinstance(message.content, str):
            texts.append(message.content)
        else:
            texts.extend(part["text"] for part in message.content if isinstance(part.get("text"), str))
    answer = ANSWER_TOKENS if request.max_tokens is None else request.max_tokens
    return _of_texts(texts) + answer


def _of_texts(texts: Iterable[str]) -> int:
    return sum(map(len, texts)) // CHARS_PER_TOKEN + 1
