"""What the steps need of model vendors: chat, embeddings and reranking, free of any vendor's words.

Adapters in `app.providers` implement these Protocols; wrappers (limits, metrics, tracing) wrap them.
Every method raises `PermanentError` or `TemporaryError` of `app.ports.errors` and nothing else,
except `asyncio.CancelledError`, on which the call in flight is aborted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal, Protocol

from app.ports.records import record

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "unknown"]


@record
class CallContext:
    """Who calls: carried by every external effect.

    `idempotency_key` is stable across the attempts of one step instance, `timeout_seconds` bounds the
    whole call (connect, send, answer).
    """

    run_id: str
    path: str
    attempt: int
    idempotency_key: str
    timeout_seconds: float
    tenant: str = ""
    """Whose call it is; limits are shared fairly among tenants."""


@record
class Message:
    """One turn. `content` is text, or a list of content parts in the shape of the caller's document."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | Sequence[Mapping[str, Any]]
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the turn (`name`, `tool_calls`, `tool_call_id`)."""


@record
class Usage:
    """Tokens as the vendor counted them; None where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    """Of the input, what the vendor read from its cache."""
    cache_write_tokens: int | None = None
    """Of the input, what it wrote there, where it charges for that."""
    reasoning_tokens: int | None = None


def counted(counts: Iterable[int | None]) -> int | None:
    """The sum of what vendors counted; None where there were calls and nobody counted any of them."""
    told = list(counts)
    known = [count for count in told if count is not None]
    return sum(known) if known or not told else None


@record
class ChatRequest:
    """One completion. Options that are None are not sent."""

    model: str
    messages: Sequence[Message]
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: Sequence[str] | None = None
    seed: int | None = None
    response_schema: Mapping[str, Any] | None = None
    """JSON Schema the answer must satisfy; adapters use the vendor's native mode where it has one."""
    tools: Sequence[Mapping[str, Any]] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Vendor options passed through unchanged."""


@record
class ChatResult:
    """The answer. `text` is the same whether it was streamed or not; `model` is the one that answered."""

    text: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    tool_calls: Sequence[Mapping[str, Any]] = ()


@record
class ChatDelta:
    """A piece of a streamed answer, in order; the last item of a stream is a `ChatResult` instead."""

    text: str


class ChatModel(Protocol):
    """A vendor's chat endpoint, for all of its models."""

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """Answer in one piece."""
        ...

    def stream(self, request: ChatRequest, context: CallContext) -> AsyncIterator[ChatDelta | ChatResult]:
        """Yield deltas as they arrive, then exactly one `ChatResult` that holds the whole."""
        ...


@record
class EmbedRequest:
    """Texts to embed, in order. `dimensions` and `input_type` are sent only when set."""

    model: str
    texts: Sequence[str]
    dimensions: int | None = None
    input_type: str | None = None


@record
class EmbedResult:
    """`vectors[i]` belongs to `texts[i]`; all have the same length."""

    vectors: Sequence[Sequence[float]]
    model: str
    usage: Usage


class Embedder(Protocol):
    """A vendor's embedding endpoint, for all of its models."""

    max_batch: int
    """Texts the vendor takes in one call; callers split longer lists."""
    max_batch_tokens: int | None
    """And their tokens together, where the vendor bounds these; callers estimate them."""

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """Embed at most `max_batch` texts."""
        ...


@record
class RerankRequest:
    """Texts to order by how well they answer `query`. `top_n` None asks for all of them."""

    model: str
    query: str
    documents: Sequence[str]
    top_n: int | None = None


@record
class RankedDocument:
    """One document's place: `index` is its position in the request, a higher `score` is better."""

    index: int
    score: float


@record
class RerankResult:
    """The best documents, best first, each at most once; `top_n` of them, or all there are."""

    ranking: Sequence[RankedDocument]
    model: str
    usage: Usage


class Reranker(Protocol):
    """A vendor's reranking endpoint, for all of its models. Scores compare within one answer only."""

    max_documents: int
    """Documents the vendor takes in one call."""

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """Rank at most `max_documents` texts."""
        ...
