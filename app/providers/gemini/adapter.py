"""Google's Gemini API: maps in, calls, maps out.

`format`, `turns` and `stream` hold the format, `vendor_api` the calls. The key goes
into a header, never into a URL. Google's own reasons (`google.rpc.ErrorInfo`, `QuotaFailure`) come first,
then the status. Retries, limits, metrics and tracing are not here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import ErrorClass, PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers.gemini import format as fmt
from app.providers.gemini.stream import Assembly
from app.providers.json_api import Credential, Endpoint, divided
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

    def __init__(self, config: GeminiConfig, transport: Transport) -> None:
        self._name = config.name
        self._official = urlsplit(config.base_url).hostname == OFFICIAL_HOST
        self._has_key = config.api_key is not None and bool(config.api_key.get_secret_value())
        self._api = VendorApi(transport, _endpoint(config), read_error=fmt.read_error, classify=classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        body = self._chat_body(request)
        answer = await self._api.post(f"{fmt.model_path(request.model)}:generateContent", body, context)
        return self._api.read(_whole, answer, request.model)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        api = self._api
        assembly = Assembly(request.model)
        body = self._chat_body(request)
        path = f"{fmt.model_path(request.model)}:streamGenerateContent?alt=sse"
        async with api.stream(path, body, context) as answer:
            if answer.headers.get("content-type", "").startswith("application/json"):
                whole = api.success(answer.headers, await answer.read())
                result = api.read(_whole, whole, request.model)
                if result.text:
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
        yield assembly.result()

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`. Texts that are too long are cut off by Google."""
        self._check_key()
        if len(request.texts) > self.max_batch:
            raise PermanentError(
                "invalid_request", f"instance {self._name!r} takes at most {self.max_batch} texts in one call"
            )
        body = self._api.written(fmt.embed_body, request)
        answer = await self._api.post(f"{fmt.model_path(request.model)}:batchEmbedContents", body, context)
        return self._api.read(fmt.read_embeddings, answer, request)

    def _chat_body(self, request: ChatRequest) -> bytes:
        self._check_key()
        return self._api.written(fmt.chat_body, request)

    def _check_key(self) -> None:
        """Not to ask where the answer is known."""
        if self._official and not self._has_key:
            raise PermanentError(
                "authentication", f"instance {self._name!r} has no API key; ask the operator to configure one"
            )


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    error_class = PERMANENT_TYPES.get(error.type)
    if error_class is None and status == _BAD_REQUEST:
        if _CONTEXT_WORDS.search(error.message):
            return "context_length"
        if _KEY_WORDS.search(error.message):
            return "authentication"
    return error_class


def _whole(answer: Mapping[str, Any], model: str) -> ChatResult:
    assembly = Assembly(model)
    assembly.add(answer)
    return assembly.result()


def _endpoint(config: GeminiConfig) -> Endpoint:
    headers, credentials = divided(config.headers)
    if config.api_key is not None:
        credentials.append(Credential(header="x-goog-api-key", secret=config.api_key))
    return Endpoint(
        instance=config.name,
        base_url=config.base_url,
        timeout_seconds=config.timeout_seconds,
        headers=headers,
        credentials=tuple(credentials),
    )
