"""OpenAI, and every server that speaks its chat completions and embeddings: maps in, calls, maps out.

`openai_format` and `openai_stream` hold the format, `vendor_api` the calls. Retries, limits, metrics and
tracing are not here. OpenAI's own error codes (platform documentation, "Error codes") come first, then
the status.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import ErrorClass, PermanentError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers import openai_format as fmt
from app.providers.json_api import Credential, Endpoint
from app.providers.json_format import VendorError
from app.providers.openai_stream import Assembly
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

OFFICIAL_HOST: Final = "api.openai.com"
MAX_BATCH: Final = 2048
PERMANENT_CODES: Final[Mapping[str, ErrorClass]] = {
    "context_length_exceeded": "context_length",
    "exceed_context_size_error": "context_length",
    "string_above_max_length": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "insufficient_quota": "rate_limit",
    "billing_hard_limit_reached": "rate_limit",
    "model_not_found": "not_found",
    "invalid_api_key": "authentication",
}
"""What trying again cannot help, by `code` or `type` of the error."""

_REASONING_MODEL: Final = re.compile(r"(o\d|gpt-[5-9])")
_CONTEXT_WORDS: Final = re.compile(r"context (length|window|size)", re.IGNORECASE)
_BAD_REQUEST: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `embedding_format` base64 costs a quarter of the bytes and half of the CPU; some servers take only
    float. `headers` go with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "https://api.openai.com/v1"
    api_key: SecretStr | None = None
    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    embedding_format: Literal["base64", "float"] = "base64"


class OpenAI:
    """One instance as `ChatModel` and `Embedder`."""

    max_batch: int = MAX_BATCH

    def __init__(self, config: OpenAIConfig, transport: Transport) -> None:
        self._name = config.name
        self._embedding_format = config.embedding_format
        self._official = (urlsplit(config.base_url).hostname or "").endswith(OFFICIAL_HOST)
        self._has_key = config.api_key is not None and bool(config.api_key.get_secret_value())
        self._api = VendorApi(transport, _endpoint(config), read_error=fmt.read_error, classify=classify)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        answer = await self._api.post("/chat/completions", self._chat_body(request, stream=False), context)
        return self._api.read(fmt.read_completion, answer, model=request.model)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        api = self._api
        assembly = Assembly(request.model)
        body = self._chat_body(request, stream=True)
        async with api.stream("/chat/completions", body, context) as answer:
            if answer.headers.get("content-type", "").startswith("application/json"):
                whole = api.success(answer.headers, await answer.read())
                result = api.read(fmt.read_completion, whole, model=request.model)
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
        """See `Embedder`."""
        self._check_key()
        if len(request.texts) > self.max_batch:
            raise PermanentError(
                "invalid_request", f"instance {self._name!r} takes at most {self.max_batch} texts in one call"
            )
        body = self._api.written(fmt.embed_body, request, self._embedding_format)
        answer = await self._api.post("/embeddings", body, context)
        return self._api.read(fmt.read_embeddings, answer, request)

    def _chat_body(self, request: ChatRequest, *, stream: bool) -> bytes:
        self._check_key()
        reasoning = self._official and _REASONING_MODEL.match(request.model)
        limit_key: Literal["max_tokens", "max_completion_tokens"] = (
            "max_completion_tokens" if reasoning else "max_tokens"
        )
        return self._api.written(fmt.chat_body, request, stream=stream, limit_key=limit_key)

    def _check_key(self) -> None:
        """Not to ask where the answer is known."""
        if self._official and not self._has_key:
            raise PermanentError(
                "authentication", f"instance {self._name!r} has no API key; ask the operator to configure one"
            )


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    error_class = PERMANENT_CODES.get(error.code) or PERMANENT_CODES.get(error.type)
    if error_class is None and status == _BAD_REQUEST and _CONTEXT_WORDS.search(error.message):
        return "context_length"
    return error_class


def _endpoint(config: OpenAIConfig) -> Endpoint:
    headers = {name: value for name, value in config.headers.items() if isinstance(value, str)}
    credentials = [
        Credential(header=name, secret=value)
        for name, value in config.headers.items()
        if isinstance(value, SecretStr)
    ]
    if config.organization:
        headers["openai-organization"] = config.organization
    if config.project:
        headers["openai-project"] = config.project
    if config.api_key is not None:
        credentials.append(Credential(header="authorization", secret=config.api_key, prefix="Bearer "))
    return Endpoint(
        instance=config.name,
        base_url=config.base_url,
        timeout_seconds=config.timeout_seconds,
        headers=headers,
        credentials=tuple(credentials),
    )
