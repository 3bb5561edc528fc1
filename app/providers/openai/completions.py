"""A server that speaks OpenAI's chat completions and embeddings, in any dialect: maps in, calls, maps out.

The `openai_*` modules hold the format, `vendor_api` the calls. A vendor makes one of it with an endpoint
and a `Dialect` of its own. Retries, limits, metrics and tracing are not here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers.json_api import Endpoint
from app.providers.openai.dialect import Dialect
from app.providers.openai.format import chat_body, read_completion
from app.providers.openai.stream import Assembly
from app.providers.openai.vectors import embed_body, read_embeddings
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi


class CompletionsApi:
    """One instance as `ChatModel` and `Embedder`."""

    def __init__(self, transport: Transport, endpoint: Endpoint, dialect: Dialect, *, has_key: bool) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self.max_batch = dialect.max_batch
        self._name = endpoint.instance
        self._dialect = dialect
        self._path = dialect.path
        self._lacks_key = dialect.needs_key and not has_key
        self._api = VendorApi(transport, endpoint, read_error=dialect.read_error, classify=dialect.classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        if self._lacks_key:
            raise self._no_key()
        api = self._api
        body = api.written(chat_body, request, self._dialect, stream=False)
        answer = await api.post(self._path("/chat/completions", request.model), body, context)
        return api.read(read_completion, answer, model=request.model)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        if self._lacks_key:
            raise self._no_key()
        api = self._api
        assembly = Assembly(request.model)
        body = api.written(chat_body, request, self._dialect, stream=True)
        async with api.stream(self._path("/chat/completions", request.model), body, context) as answer:
            if answer.headers.get("content-type", "").startswith("application/json"):
                whole = api.success(answer.headers, await answer.read())
                result = api.read(read_completion, whole, model=request.model)
                yield ChatDelta(text=result.text)
                yield result
                return
            async with aclosing(api.events(answer)) as pieces:
                async for piece in pieces:
                    delta = api.read(assembly.add, piece)
                    if delta is not None:
                        yield delta
            await answer.drain()
        if not assembly.complete:
            raise api.ended_early()
        yield api.read(assembly.result)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        if self._lacks_key:
            raise self._no_key()
        if len(request.texts) > self.max_batch:
            raise PermanentError(
                "invalid_request", f"instance {self._name!r} takes at most {self.max_batch} texts in one call"
            )
        body = self._api.written(embed_body, request, self._dialect)
        answer = await self._api.post(self._path("/embeddings", request.model), body, context)
        return self._api.read(read_embeddings, answer, request)

    def _no_key(self) -> PermanentError:
        """Not to ask where the answer is known."""
        return PermanentError(
            "authentication", f"instance {self._name!r} has no API key; ask the operator to configure one"
        )
