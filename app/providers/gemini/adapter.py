"""Google's Gemini API: maps in, calls, maps out.

`format`, `turns` and `stream` hold the format, `vendor_api` the calls. The key goes into a header, never
into a URL. Google's own reasons (`google.rpc.ErrorInfo`, `QuotaFailure`) come first, then the status.
Retries, limits, metrics and tracing are not here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import ErrorClass
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers.chat_streams import streamed
from app.providers.gemini import format as fmt
from app.providers.gemini.stream import Assembly
from app.providers.json_api import endpoint_of, is_set, key_in
from app.providers.json_format import VendorError
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

OFFICIAL_HOST: Final = "generativelanguage.googleapis.com"
MAX_BATCH: Final = 100
PERMANENT_TYPES: Final[Mapping[str, ErrorClass]] = {
    "PROMPT_BLOCKED": "content_filter",
    "DAILY_QUOTA": "rate_limit",
    "API_KEY_INVALID": "authentication",
    "FAILED_PRECONDITION": "permission",
}
"""What trying again cannot help, by reason, quota or status of the error. A day is too long to wait."""

_CONTEXT_WORDS: Final = re.compile(r"token count.{0,40}exceeds|exceeds.{0,40}number of tokens", re.IGNORECASE)
_KEY_WORDS: Final = re.compile(r"API key (not valid|expired|not found)", re.IGNORECASE)
_BAD_REQUEST: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `headers` go with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "https://generativelanguage.googleapis.com/v1beta"
    api_key: SecretStr | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None


class Gemini:
    """One instance as `ChatModel` and `Embedder`."""

    max_batch: int = MAX_BATCH
    max_batch_tokens: int | None = None

    def __init__(self, config: GeminiConfig, transport: Transport) -> None:
        is_official = urlsplit(config.base_url).hostname == OFFICIAL_HOST
        self._lacks_key = is_official and not is_set(config.api_key)
        endpoint = endpoint_of(config, key_in("x-goog-api-key", config.api_key), config.headers)
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        body = self._chat_body(request)
        answer = await self._api.post(f"{fmt.model_path(request.model)}:generateContent", body, context)
        return self._api.read(_whole, answer, model=request.model)

    def stream(self, request: ChatRequest, context: CallContext) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        body = self._chat_body(request)
        path = f"{fmt.model_path(request.model)}:streamGenerateContent?alt=sse"
        read_whole = partial(_whole, model=request.model)
        return streamed(self._api, path, body, context, Assembly(request.model), read_whole=read_whole)

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`. Texts that are too long are cut off by Google."""
        self._check_key()
        self._api.check_count(len(request.texts), self.max_batch, "texts")
        body = self._api.written(fmt.embed_body, request)
        answer = await self._api.post(f"{fmt.model_path(request.model)}:batchEmbedContents", body, context)
        return await self._api.read_many(len(request.texts), fmt.read_embeddings, answer, request)

    def _chat_body(self, request: ChatRequest) -> bytes:
        self._check_key()
        return self._api.written(fmt.chat_body, request)

    def _check_key(self) -> None:
        if self._lacks_key:
            raise self._api.lacks_key()


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    error_class = PERMANENT_TYPES.get(error.type)
    if error_class is None and status == _BAD_REQUEST:
        if _CONTEXT_WORDS.search(error.message):
            return "context_length"
        if _KEY_WORDS.search(error.message):
            return "authentication"
    return error_class


def _whole(answer: Mapping[str, Any], *, model: str) -> ChatResult:
    assembly = Assembly(model)
    assembly.add(answer)
    return assembly.result()
