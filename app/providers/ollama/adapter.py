"""Ollama, by its own API: maps in, calls, maps out.

`format` holds the format, `vendor_api` the calls. A server of one's own needs no key; with one, it
goes out as a bearer token (Ollama's cloud, a proxy). Ollama's errors are text without a code. Retries,
limits, metrics and tracing are not here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr

from app.ports.errors import ErrorClass, PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers.json_api import Credential, Endpoint, divided
from app.providers.json_format import VendorError
from app.providers.ndjson import LineParser
from app.providers.ollama import format as fmt
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

MAX_BATCH: Final = 256
"""Ollama names no limit; this many texts keep a call to seconds on a small machine."""

_CONTEXT_WORDS: Final = re.compile(r"exceeds? (the |maximum )*context|context (length|window)", re.IGNORECASE)
_NDJSON: Final = {"accept": "application/x-ndjson"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `headers` go with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "http://localhost:11434"
    api_key: SecretStr | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None


class Ollama:
    """One instance as `ChatModel` and `Embedder`."""

    max_batch: int = MAX_BATCH

    def __init__(self, config: OllamaConfig, transport: Transport) -> None:
        self._name = config.name
        self._api = VendorApi(transport, _endpoint(config), read_error=fmt.read_error, classify=classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        body = self._api.written(fmt.chat_body, request, stream=False)
        answer = await self._api.post("/api/chat", body, context)
        return self._api.read(_whole, answer, request.model)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`."""
        api = self._api
        assembly = fmt.Assembly(request.model)
        body = api.written(fmt.chat_body, request, stream=True)
        async with api.stream("/api/chat", body, context, headers=_NDJSON) as answer:
            async with aclosing(api.events(answer, LineParser())) as pieces:
                async for piece in pieces:
                    delta = api.read(assembly.add, piece)
                    if delta is not None:
                        yield delta
            await answer.drain()
        if not assembly.complete:
            raise api.ended_early()
        yield assembly.result()

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`. Texts that are too long are cut off by the server."""
        if len(request.texts) > self.max_batch:
            raise PermanentError(
                "invalid_request", f"instance {self._name!r} takes at most {self.max_batch} texts in one call"
            )
        body = self._api.written(fmt.embed_body, request)
        answer = await self._api.post("/api/embed", body, context)
        return self._api.read(fmt.read_embeddings, answer, request)


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`. Too long a prompt is told with 400 by some versions and with 500 by others."""
    del status
    return "context_length" if _CONTEXT_WORDS.search(error.message) else None


def _whole(answer: Mapping[str, Any], model: str) -> ChatResult:
    assembly = fmt.Assembly(model)
    assembly.add(answer)
    return assembly.result()


def _endpoint(config: OllamaConfig) -> Endpoint:
    headers, credentials = divided(config.headers)
    if config.api_key is not None:
        credentials.append(Credential(header="authorization", secret=config.api_key, prefix="Bearer "))
    return Endpoint(
        instance=config.name,
        base_url=config.base_url,
        timeout_seconds=config.timeout_seconds,
        headers=headers,
        credentials=tuple(credentials),
    )
