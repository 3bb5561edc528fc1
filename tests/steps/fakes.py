"""The outside world for steps: typed doubles of the ports that record what they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from app.ports.errors import CallError, PermanentError
from app.ports.http import HttpClient, HttpRequest, HttpResponse
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatModel,
    ChatRequest,
    ChatResult,
    Embedder,
    EmbedRequest,
    EmbedResult,
    RankedDocument,
    Reranker,
    RerankRequest,
    RerankResult,
    Usage,
)
from app.ports.steps import Services, StepContext, StepOutcome
from app.ports.vectors import Filter, IndexInfo, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.steps.kind import RENDERED, StepKind
from app.steps.transforms.registry import TRANSFORMS

T = TypeVar("T")
CALL = CallContext(run_id="run-1", path="step", attempt=1, idempotency_key="key-1", timeout_seconds=5.0)


def chat_result(text: str = "hello", **changes: Any) -> ChatResult:
    """An answer of 3 tokens to 7."""
    fields: dict[str, Any] = {
        "text": text,
        "model": "model-0613",
        "finish_reason": "stop",
        "usage": Usage(input_tokens=7, output_tokens=3),
    }
    return ChatResult(**{**fields, **changes})


@dataclass
class FakeChat:
    """Answers with `result`, or raises it. Streams `deltas` first; `result` None ends the stream early."""

    result: ChatResult | CallError | None = field(default_factory=chat_result)
    deltas: Sequence[str] = ()
    requests: list[ChatRequest] = field(default_factory=list)
    streamed: bool = False

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        self.requests.append(request)
        if isinstance(self.result, ChatResult):
            return self.result
        assert self.result is not None
        raise self.result

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        self.requests.append(request)
        self.streamed = True
        for delta in self.deltas:
            yield ChatDelta(text=delta)
        if isinstance(self.result, CallError):
            raise self.result
        if self.result is not None:
            yield self.result


@dataclass
class FakeEmbedder:
    """Embeds a text as `[length, position of its first letter]`; texts in `failing` raise."""

    max_batch: int = 100
    max_batch_tokens: int | None = None
    failing: Mapping[str, CallError] = field(default_factory=dict)
    requests: list[EmbedRequest] = field(default_factory=list)
    contexts: list[CallContext] = field(default_factory=list)
    short_by: int = 0
    running: int = 0
    most_running: int = 0
    hold: asyncio.Event | None = None
    """Answers wait for it; `three_wait` is set once three calls do."""
    three_wait: asyncio.Event = field(default_factory=asyncio.Event)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        self.requests.append(request)
        self.contexts.append(context)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.running == 3:
                self.three_wait.set()
            if self.hold is not None:
                await self.hold.wait()
            else:
                # Shorter batches answer sooner, so answers come out of order.
                for _ in range(len(request.texts[0]) % 5):
                    await asyncio.sleep(0)
            for text in request.texts:
                if text in self.failing:
                    raise self.failing[text]
        finally:
            self.running -= 1
        vectors = [vector_of(text) for text in request.texts]
        return EmbedResult(
            vectors=vectors[: len(vectors) - self.short_by],
            model="embedder-1",
            usage=Usage(input_tokens=len(request.texts)),
        )


def vector_of(text: str) -> list[float]:
    """What `FakeEmbedder` makes of a text."""
    return [float(len(text)), float(ord(text[0]))]


@dataclass
class FakeReranker:
    """Scores a document with the length of its text, and answers in the order it was asked."""

    max_documents: int = 100
    ranking: Sequence[RankedDocument] | None = None
    """The answer to everything, where a test wants its own."""
    requests: list[RerankRequest] = field(default_factory=list)

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        self.requests.append(request)
        scored = [
            RankedDocument(index=index, score=float(len(text)))
            for index, text in enumerate(request.documents)
        ]
        ranking = scored if self.ranking is None else self.ranking
        return RerankResult(ranking=ranking, model="ranker-1", usage=Usage(input_tokens=len(scored)))


@dataclass
class FakeVectors:
    """Returns `hits` and counts; records every call as `(name, arguments)`."""

    hits: Sequence[VectorHit] = ()
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        self.calls.append(("search", {"index": index, "query": query}))
        return self.hits[: query.top_k]

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        self.calls.append(("upsert", {"index": index, "records": list(records), "namespace": namespace}))
        return len(records)

    async def delete(
        self,
        index: str,
        *,
        ids: Sequence[str] | None,
        filter: Filter | None,
        delete_all: bool,
        namespace: str | None,
        context: CallContext,
    ) -> int:
        asked = {"index": index, "ids": ids, "filter": filter, "delete_all": delete_all}
        self.calls.append(("delete", {**asked, "namespace": namespace}))
        return 2

    async def describe(self, index: str) -> IndexInfo:
        return IndexInfo(name=index, dimensions=2, metric="cosine", count=0)

    async def check(self) -> None:
        return None


@dataclass
class FakeHttp:
    """Answers every request with `answer`, or raises it."""

    answer: HttpResponse | CallError = field(
        default_factory=lambda: HttpResponse(status=200, headers={}, content=b"")
    )
    requests: list[HttpRequest] = field(default_factory=list)

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if isinstance(self.answer, CallError):
            raise self.answer
        return self.answer


@dataclass
class FakeServices:
    """One of everything, each under the name `own`, and further chat models by their names."""

    http: HttpClient = field(default_factory=FakeHttp)
    operator_http: HttpClient = field(default_factory=FakeHttp)
    action_webhook: str | None = None
    chat_model: ChatModel = field(default_factory=FakeChat)
    embeddings: Embedder = field(default_factory=FakeEmbedder)
    ranker: Reranker = field(default_factory=FakeReranker)
    database: VectorStore = field(default_factory=FakeVectors)
    chats: Mapping[str, ChatModel] = field(default_factory=dict)

    def chat(self, provider: str) -> ChatModel:
        return self.chats.get(provider) or _known(provider, self.chat_model)

    def embedder(self, provider: str) -> Embedder:
        return _known(provider, self.embeddings)

    def reranker(self, provider: str) -> Reranker:
        return _known(provider, self.ranker)

    def vectors(self, database: str) -> VectorStore:
        return _known(database, self.database)


def _known(name: str, service: T) -> T:
    if name != "own":
        raise PermanentError("unknown_provider", f"there is no provider {name!r}")
    return service


async def run(
    kind: StepKind,
    document: Mapping[str, Any],
    services: Services | None = None,
    heard: list[str] | None = None,
    *,
    timeout_seconds: float = CALL.timeout_seconds,
    max_output_bytes: int | None = None,
) -> StepOutcome:
    """One attempt at a step whose document holds no templates any more; `heard` takes what it streams."""

    def emit(text: str) -> None:
        if heard is not None:
            heard.append(text)

    config = kind.config_model.model_validate(dict(document), context=RENDERED)
    call = replace(CALL, timeout_seconds=timeout_seconds)
    context = StepContext(
        call=call,
        services=services or FakeServices(),
        emit=emit,
        workflow="demo",
        tenant="default",
        max_output_bytes=max_output_bytes,
    )
    return await kind.execute(config, context)


def problems(kind: StepKind, document: Mapping[str, Any]) -> dict[str, str]:
    """What `check` finds in a document: pointer to detail and hint."""
    config = kind.config_model.model_validate(dict(document))
    return {problem.pointer: f"{problem.detail} - {problem.hint}" for problem in kind.check(config)}


def apply(function: str, *inputs: Any, **parameters: Any) -> Any:
    """What a transform function makes of inputs."""
    transform = TRANSFORMS[function]
    return transform.apply(list(inputs), transform.parameters.model_validate(parameters, context=RENDERED))


def refusal(function: str, *inputs: Any, **parameters: Any) -> PermanentError:
    """The error with which a transform function refuses inputs."""
    with pytest.raises(PermanentError) as refused:
        apply(function, *inputs, **parameters)
    return refused.value


@dataclass(frozen=True)
class FakeScope:
    """Names of a document."""

    inputs: frozenset[str] = frozenset()
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def givers(self) -> Mapping[str, Sequence[str]]:
        givers: dict[str, list[str]] = {}
        for step, names in self.steps.items():
            for name in names:
                givers.setdefault(name, []).append(step)
        return givers
