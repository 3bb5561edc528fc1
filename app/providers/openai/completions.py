"""A server that speaks OpenAI's chat completions and embeddings, in any dialect: maps in, calls, maps out.

`format`, `stream` and `vectors` hold the format, `vendor_api` the calls. A vendor makes one of it with an
endpoint and a `Dialect` of its own. Retries, limits, metrics and tracing are not here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers.chat_streams import streamed
from app.providers.json_api import Endpoint
from app.providers.openai.dialect import Dialect
from app.providers.openai.format import chat_body, read_completion
from app.providers.openai.stream import Assembly
from app.providers.openai.vectors import embed_body, most_bytes, read_embeddings
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi


class CompletionsApi:
    """One instance as `ChatModel` and `Embedder`."""

    def __init__(self, transport: Transport, endpoint: Endpoint, dialect: Dialect, *, has_key: bool) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self.max_batch = dialect.max_batch
        self.max_batch_tokens = dialect.max_batch_tokens
        self._dialect = dialect
        self._path = dialect.path
        self._lacks_key = dialect.needs_key and not has_key
        self._api = VendorApi(transport, endpoint, read_error=dialect.read_error, classify=dialect.classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        path, body = self._question(request, stream=False)
        answer = await self._api.post(path, body, context)
        return self._api.read(read_completion, answer, model=request.model)

    def stream(self, request: ChatRequest, context: CallContext) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        path, body = self._question(request, stream=True)
        read_whole = partial(read_completion, model=request.model)
        assembly = Assembly(request.model)
        return streamed(self._api, path, body, context, assembly, read_whole=read_whole)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        self._check_key()
        api, count = self._api, len(request.texts)
        api.check_count(count, self.max_batch, "texts")
        body = api.written(embed_body, request, self._dialect)
        path = self._path("/embeddings", request.model)
        answer = await api.post(path, body, context, max_bytes=most_bytes(count, self._dialect))
        return await api.read_many(count, read_embeddings, answer, request)

    def _question(self, request: ChatRequest, *, stream: bool) -> tuple[str, bytes]:
        """Path and body."""
        self._check_key()
        body = self._api.written(chat_body, request, self._dialect, stream=stream)
        return self._path("/chat/completions", request.model), body

    def _check_key(self) -> None:
        if self._lacks_key:
            raise self._api.lacks_key()
