"""A model that says what it was told: offline, deterministic, for tests and examples.

Model names can order a failure: `fail:rate_limit` fails always, `fail:server_error:2` in the first two
attempts of a step. Failing is a function of the request alone, so a replay fails alike. Every other
model name answers.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from app.ports.errors import RETRYABLE_CLASSES, CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbedRequest,
    EmbedResult,
    Message,
    RankedDocument,
    RerankRequest,
    RerankResult,
    Usage,
)

MIN_DIMENSIONS: Final = 8
MAX_DIMENSIONS: Final = 64

_FAILURE: Final = re.compile(r"fail:(?P<error_class>[a-z_]+)(?::(?P<attempts>\d{1,6}))?")
_WORD: Final = re.compile(r"\S+\s*")
_TOKEN: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoConfig:
    """One instance. Every call takes `latency_ms`."""

    name: str = "echo"
    latency_ms: float = 0.0
    max_concurrency: int | None = None


class Echo:
    """`ChatModel`, `Embedder` and `Reranker`. A token is a word."""

    max_batch: int = 2048
    max_batch_tokens: int | None = None
    max_documents: int = 10_000

    def __init__(self, config: EchoConfig) -> None:
        self._name = config.name
        self._latency_seconds = config.latency_ms / 1000

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """The last user message, cut to `max_tokens` words."""
        await self._wait_or_fail(request.model, context)
        return _answer(request)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """The same, word by word."""
        await self._wait_or_fail(request.model, context)
        result = _answer(request)
        for word in _WORD.findall(result.text):
            yield ChatDelta(text=word)
        yield result

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """Unit vectors; texts that share words are near each other. 8 to 64 dimensions, 64 by default."""
        await self._wait_or_fail(request.model, context)
        dimensions = MAX_DIMENSIONS if request.dimensions is None else request.dimensions
        if not MIN_DIMENSIONS <= dimensions <= MAX_DIMENSIONS:
            raise PermanentError(
                "invalid_request",
                f"instance {self._name!r} embeds to {MIN_DIMENSIONS} to {MAX_DIMENSIONS} dimensions",
            )
        return EmbedResult(
            vectors=[_vector(text, dimensions) for text in request.texts],
            model=request.model,
            usage=Usage(input_tokens=sum(_count(text) for text in request.texts)),
        )

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """By the part of the query's words that a document has: 0 to 1, equal ones in their order."""
        await self._wait_or_fail(request.model, context)
        wanted = _words(request.query)
        scores = [len(wanted & _words(text)) / max(len(wanted), 1) for text in request.documents]
        best = sorted(range(len(scores)), key=lambda index: -scores[index])
        return RerankResult(
            ranking=[RankedDocument(index=index, score=scores[index]) for index in best[: request.top_n]],
            model=request.model,
            usage=Usage(input_tokens=sum(map(_count, [request.query, *request.documents]))),
        )

    async def _wait_or_fail(self, model: str, context: CallContext) -> None:
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        order = _FAILURE.fullmatch(model)
        if order is not None:
            attempts = order["attempts"]
            if attempts is None or context.attempt <= int(attempts):
                raise self._failure(order["error_class"])

    def _failure(self, name: str) -> CallError:
        error_class = _CLASSES.get(name)
        if error_class is None:
            known = ", ".join(sorted(_CLASSES))
            return PermanentError("invalid_request", f"{name!r} is not an error class; use one of: {known}")
        message = f"instance {self._name!r} failed as its model name ordered"
        kind = TemporaryError if error_class in RETRYABLE_CLASSES else PermanentError
        return kind(error_class, message)


def _answer(request: ChatRequest) -> ChatResult:
    text = next((_text(turn) for turn in reversed(request.messages) if turn.role == "user"), "")
    words = _WORD.findall(text)
    cut = request.max_tokens is not None and len(words) > request.max_tokens
    if cut:
        words = words[: request.max_tokens]
        text = "".join(words).rstrip()
    return ChatResult(
        text=text,
        model=request.model,
        finish_reason="length" if cut else "stop",
        usage=Usage(
            input_tokens=sum(_count(_text(turn)) for turn in request.messages), output_tokens=len(words)
        ),
    )


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    return "".join(str(part.get("text", "")) for part in message.content)


def _words(text: str) -> set[str]:
    return set(_TOKEN.findall(text.lower()))


def _count(text: str) -> int:
    return len(text.split())


def _vector(text: str, dimensions: int) -> Sequence[float]:
    """Random projection: every word adds ±1 to each dimension, by a bit of its hash; scaled to length 1."""
    vector = [0.0] * dimensions
    for word in _TOKEN.findall(text.lower()) or [""]:
        digest = hashlib.blake2b(word.encode(errors="replace"), digest_size=MAX_DIMENSIONS // 8).digest()
        bits = int.from_bytes(digest, "big")
        for place in range(dimensions):
            vector[place] += 1.0 if bits >> place & 1 else -1.0
    length = math.hypot(*vector)
    if not length:
        # Words that cancel each other out still need a direction.
        vector[0], length = 1.0, 1.0
    return [value / length for value in vector]


_CLASSES: Final[dict[str, ErrorClass]] = {name: name for name in get_args(ErrorClass)}
