"""OpenAI, and every server that speaks its chat completions and embeddings: maps in, calls, maps out.

`openai_format` and `openai_stream` hold the format, `json_api` the HTTP. Retries, limits, metrics and
tracing are not here. OpenAI's own error codes (platform documentation, "Error codes") come first, then
the status.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal, ParamSpec, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult, EmbedRequest, EmbedResult
from app.providers import openai_format as fmt
from app.providers.failures import from_status
from app.providers.json_api import Credential, Endpoint, JsonApi
from app.providers.openai_format import Malformed
from app.providers.openai_stream import Assembly
from app.providers.sse import EventParser
from app.providers.transport import StreamedAnswer, Transport

OFFICIAL_HOST: Final = "api.openai.com"
MAX_BATCH: Final = 2048
OK: Final = 200
DONE: Final = b"[DONE]"
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
_STATUSES: Final = frozenset(str(status) for status in range(400, 600))

P = ParamSpec("P")
T = TypeVar("T")


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
        self._api = JsonApi(transport, _endpoint(config))

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        body = self._chat_body(request, stream=False)
        answer = await self._post("/chat/completions", body, context)
        return self._read(fmt.read_completion, answer, model=request.model)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        body = self._chat_body(request, stream=True)
        headers = {"idempotency-key": context.idempotency_key}
        assembly = Assembly(request.model)
        async with self._api.stream(
            "/chat/completions", body, headers=headers, timeout_seconds=context.timeout_seconds
        ) as answer:
            if answer.status != OK:
                raise self._failure(answer.status, answer.headers, await answer.read())
            if answer.headers.get("content-type", "").startswith("application/json"):
                whole = self._success(answer.headers, await answer.read())
                result = self._read(fmt.read_completion, whole, model=request.model)
                yield ChatDelta(text=result.text)
                yield result
                return
            async with aclosing(self._pieces(answer)) as pieces:
                async for piece in pieces:
                    delta = self._read(assembly.add, piece)
                    if delta is not None:
                        yield delta
            await answer.drain()
        if not assembly.complete:
            raise TemporaryError("connection", f"the stream of instance {self._name!r} ended early")
        yield assembly.result()

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See `Embedder`."""
        self._check_key()
        if len(request.texts) > self.max_batch:
            raise PermanentError(
                "invalid_request", f"instance {self._name!r} takes at most {self.max_batch} texts in one call"
            )
        body = self._written(fmt.embed_body, request, self._embedding_format)
        answer = await self._post("/embeddings", body, context)
        return self._read(fmt.read_embeddings, answer, request)

    async def _post(self, path: str, body: bytes, context: CallContext) -> dict[str, Any]:
        headers = {"idempotency-key": context.idempotency_key}
        answer = await self._api.post(path, body, headers=headers, timeout_seconds=context.timeout_seconds)
        if answer.status != OK:
            raise self._failure(answer.status, answer.headers, answer.content)
        return self._success(answer.headers, answer.content)

    async def _pieces(self, answer: StreamedAnswer) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON objects of an event stream, up to `[DONE]` or its end."""
        parser = EventParser()
        async with aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                for data in parser.feed(chunk):
                    if data == DONE:
                        return
                    yield self._success(answer.headers, data)
        for data in parser.finish():
            if data != DONE:
                yield self._success(answer.headers, data)

    def _chat_body(self, request: ChatRequest, *, stream: bool) -> bytes:
        self._check_key()
        reasoning = self._official and _REASONING_MODEL.match(request.model)
        limit_key: Literal["max_tokens", "max_completion_tokens"] = (
            "max_completion_tokens" if reasoning else "max_tokens"
        )
        return self._written(fmt.chat_body, request, stream=stream, limit_key=limit_key)

    def _check_key(self) -> None:
        """Not to ask where the answer is known."""
        if self._official and not self._has_key:
            raise PermanentError(
                "authentication", f"instance {self._name!r} has no API key; ask the operator to configure one"
            )

    def _success(self, headers: Mapping[str, str], content: bytes) -> dict[str, Any]:
        """The object that a 200 carries; some servers put an error into it."""
        answer = self._read(fmt.load, content)
        error = fmt.read_error(answer)
        if error is None:
            return answer
        status = int(error.code) if error.code in _STATUSES else 500
        raise self._failure(status, headers, content)

    def _failure(self, status: int, headers: Mapping[str, str], content: bytes) -> CallError:
        try:
            error = fmt.read_error(fmt.load(content))
        except Malformed:
            error = None
        if error is None:
            return from_status(status, headers, "no reason was given", instance=self._name)
        said = self._api.quote(error.message)
        error_class = PERMANENT_CODES.get(error.code) or PERMANENT_CODES.get(error.type)
        if error_class is None and status == _BAD_REQUEST and _CONTEXT_WORDS.search(error.message):
            error_class = "context_length"
        if error_class is None or error_class == "authentication":
            return from_status(status, headers, said, instance=self._name)
        message = f"instance {self._name!r} refused the request ({status}): {said}"
        return PermanentError(error_class, message, status=status)

    def _read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except Malformed as error:
            message = f"the answer of instance {self._name!r} cannot be used: {error}"
            raise TemporaryError("invalid_output", message) from None

    def _written(self, write: Callable[P, bytes], *args: P.args, **kwargs: P.kwargs) -> bytes:
        try:
            return write(*args, **kwargs)
        except ValueError as error:
            raise PermanentError("invalid_request", str(error)) from None


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
