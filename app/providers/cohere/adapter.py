"""Cohere's v2 API: chat, embeddings and reranking. Maps in, calls, maps out.

`format`, `stream` and `rerank_format` hold the format, `vendor_api` the calls. Retries, limits, metrics
and tracing are not here. Cohere's errors are a status and a sentence; where the sentence says more than
the status does, it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import ErrorClass, PermanentError
from app.ports.models import (
    CallContext,
    ChatDelta,
    ChatRequest,
    ChatResult,
    EmbedRequest,
    EmbedResult,
    RerankRequest,
    RerankResult,
)
from app.providers.chat_streams import streamed
from app.providers.cohere import format as fmt
from app.providers.cohere.stream import Assembly
from app.providers.json_api import USER_AGENT, bearer, endpoint_of, is_set
from app.providers.json_format import VendorError
from app.providers.rerank_format import read_ranking, rerank_body
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

OFFICIAL_HOSTS: Final = ("api.cohere.com", "api.cohere.ai")
MAX_BATCH: Final = 96
MAX_DOCUMENTS: Final = 1000

_TOO_LONG: Final = re.compile(r"too many tokens|too long|context (length|window)|token limit", re.IGNORECASE)
_NO_MORE_THIS_MONTH: Final = re.compile(r"/ ?month|per month|monthly", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CohereConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `input_type` holds for texts whose step names no purpose, because Cohere wants one: most of them are
    stored. `truncate` says what becomes of texts longer than the model reads: cut at that end, or, with
    NONE, an error. `headers` go with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "https://api.cohere.com"
    api_key: SecretStr | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    input_type: Literal["search_document", "search_query", "classification", "clustering"] = "search_document"
    truncate: Literal["NONE", "START", "END"] = "END"


class Cohere:
    """One instance as `ChatModel`, `Embedder` and `Reranker`."""

    max_batch: int = MAX_BATCH
    max_batch_tokens: int | None = None
    max_documents: int = MAX_DOCUMENTS

    def __init__(self, config: CohereConfig, transport: Transport) -> None:
        self._config = config
        is_official = urlsplit(config.base_url).hostname in OFFICIAL_HOSTS
        self._lacks_key = is_official and not is_set(config.api_key)
        headers = {"x-client-name": USER_AGENT, **config.headers}
        endpoint = endpoint_of(config, bearer(config.api_key), headers)
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        self._check_key()
        body = self._api.written(fmt.chat_body, request, stream=False)
        answer = await self._api.post("/v2/chat", body, context)
        return self._api.read(fmt.read_completion, answer, model=request.model)

    def stream(self, request: ChatRequest, context: CallContext) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        self._check_key()
        body = self._api.written(fmt.chat_body, request, stream=True)
        read_whole = partial(fmt.read_completion, model=request.model)
        return streamed(self._api, "/v2/chat", body, context, Assembly(request.model), read_whole=read_whole)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        self._check_key()
        self._api.check_count(len(request.texts), self.max_batch, "texts")
        if not request.texts:
            raise PermanentError("invalid_request", "there is no text to embed; give at least one")
        config = self._config
        body = self._api.written(
            fmt.embed_body, request, input_type=config.input_type, truncate=config.truncate
        )
        answer = await self._api.post("/v2/embed", body, context)
        return await self._api.read_many(len(request.texts), fmt.read_embeddings, answer, request)

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """See `Reranker`. Scores are 0 to 1. Cohere bills searches here and counts no tokens."""
        self._check_key()
        self._api.check_count(len(request.documents), self.max_documents, "documents")
        if not request.documents:
            return RerankResult(ranking=[], model=request.model, usage=fmt.read_usage(None))
        answer = await self._api.post("/v2/rerank", self._api.written(rerank_body, request), context)
        return RerankResult(
            ranking=self._api.read(read_ranking, answer.get("results"), request, score="relevance_score"),
            model=request.model,
            usage=fmt.read_usage(answer.get("meta")),
        )

    def _check_key(self) -> None:
        if self._lacks_key:
            raise self._api.lacks_key()


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    match status:
        case 400 | 422 if _TOO_LONG.search(error.message):
            return "context_length"
        case 429 if _NO_MORE_THIS_MONTH.search(error.message):
            return "rate_limit"
        case 498:  # a word on the vendor's list of those it does not take or give
            return "content_filter"
        case _:
            return None
