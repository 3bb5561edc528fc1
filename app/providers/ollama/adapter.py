"""Ollama, by its own API: maps in, calls, maps out.

`format` holds the format, `vendor_api` the calls. A server of one's own needs no key; with one, it goes out
as a bearer token (Ollama's cloud, a proxy). Ollama's errors are text without a code. Retries, limits,
metrics and tracing are not here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import SecretStr

from app.ports.errors import ErrorClass
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers.chat_streams import streamed
from app.providers.json_api import bearer, endpoint_of
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
    max_batch_tokens: int | None = None

    def __init__(self, config: OllamaConfig, transport: Transport) -> None:
        endpoint = endpoint_of(config, bearer(config.api_key), config.headers)
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        body = self._api.written(fmt.chat_body, request, stream=False)
        answer = await self._api.post("/api/chat", body, context)
        return self._api.read(_whole, answer, request.model)

    def stream(self, request: ChatRequest, context: CallContext) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`."""
        body = self._api.written(fmt.chat_body, request, stream=True)
        assembly = fmt.Assembly(request.model)
        return streamed(self._api, "/api/chat", body, context, assembly, headers=_NDJSON, parser=LineParser())

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`. Texts that are too long are cut off by the server."""
        self._api.check_count(len(request.texts), self.max_batch, "texts")
        body = self._api.written(fmt.embed_body, request)
        answer = await self._api.post("/api/embed", body, context)
        return await self._api.read_many(len(request.texts), fmt.read_embeddings, answer, request)


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`. Too long a prompt is told with 400 by some versions and with 500 by others."""
    del status
    return "context_length" if _CONTEXT_WORDS.search(error.message) else None


def _whole(answer: Mapping[str, Any], model: str) -> ChatResult:
    assembly = fmt.Assembly(model)
    assembly.add(answer)
    return assembly.result()
