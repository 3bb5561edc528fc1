"""Anthropic's Messages API, and servers that speak it: maps in, calls, maps out.

`format`, `turns`, `schema` and `stream` hold the format,
`vendor_api` the calls. Retries, limits, metrics and tracing are not here. Anthropic's errors are a type
that says what the status says, and a sentence; where the sentence says more, it is looked at.
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
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult
from app.providers.anthropic import format as fmt
from app.providers.anthropic.stream import Assembly
from app.providers.json_api import Credential, Endpoint
from app.providers.json_format import VendorError
from app.providers.transport import Transport
from app.providers.vendor_api import VendorApi

OFFICIAL_HOST: Final = "api.anthropic.com"
VERSION: Final = "2023-06-01"
PATH: Final = "/v1/messages"
SENTENCES: Final[Mapping[re.Pattern[str], ErrorClass]] = {
    re.compile(
        r"prompt is too long|exceeds? (the )?(available |model's )?context|context (length|limit|window)",
        re.IGNORECASE,
    ): "context_length",
    re.compile(r"content filtering policy", re.IGNORECASE): "content_filter",
    re.compile(r"credit balance is too low|reached your .{0,40}usage limits", re.IGNORECASE): "rate_limit",
}
"""What invalid requests mean beyond that; trying again cannot help."""

_BAD_REQUEST: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `default_max_tokens` is sent where a request names no limit, because the vendor asks for one.
    `cache_system` marks the system prompt as worth caching. `structured_outputs` native has the vendor
    hold answers to schemas where it takes them; prompt is for models that cannot. `headers` go with every
    request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "https://api.anthropic.com"
    api_key: SecretStr | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    default_max_tokens: int = 4096
    cache_system: bool = False
    structured_outputs: Literal["native", "prompt"] = "native"


class Anthropic:
    """One instance as `ChatModel`. `seed` is not sent: the vendor has none."""

    def __init__(self, config: AnthropicConfig, transport: Transport) -> None:
        """Raises `ValueError` for a base URL that is none."""
        self._api = VendorApi(transport, _endpoint(config), read_error=fmt.read_error, classify=classify)
        self._manner = fmt.Manner(
            default_max_tokens=config.default_max_tokens,
            cache_system=config.cache_system,
            native_schemas=config.structured_outputs == "native",
        )
        self._lacks_key = urlsplit(config.base_url).hostname == OFFICIAL_HOST and not (
            config.api_key and config.api_key.get_secret_value()
        )

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        answer = await self._api.post(PATH, self._body(request, stream=False), context)
        return self._api.read(fmt.read_completion, answer, model=request.model)

    async def stream(
        self, request: ChatRequest, context: CallContext
    ) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        api = self._api
        assembly = Assembly(request.model)
        async with api.stream(PATH, self._body(request, stream=True), context) as answer:
            if answer.headers.get("content-type", "").startswith("application/json"):
                whole = api.success(answer.headers, await answer.read())
                result = api.read(fmt.read_completion, whole, model=request.model)
                yield ChatDelta(text=result.text)
                yield result
                return
            async with aclosing(api.events(answer)) as events:
                async for event in events:
                    delta = api.read(assembly.add, event)
                    if delta is not None:
                        yield delta
                    if assembly.ended:
                        break
            await answer.drain()
        if not assembly.complete:
            raise api.ended_early()
        yield assembly.result()

    def _body(self, request: ChatRequest, *, stream: bool) -> bytes:
        if self._lacks_key:
            raise PermanentError(
                "authentication",
                f"instance {self._api.instance!r} has no API key; ask the operator to configure one",
            )
        return self._api.written(fmt.chat_body, request, self._manner, stream=stream)


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    if error.type == "billing_error":
        return "rate_limit"
    if status != _BAD_REQUEST:
        return None
    return next((found for words, found in SENTENCES.items() if words.search(error.message)), None)


def _endpoint(config: AnthropicConfig) -> Endpoint:
    headers = {name: value for name, value in config.headers.items() if isinstance(value, str)}
    credentials = [
        Credential(header=name, secret=value)
        for name, value in config.headers.items()
        if isinstance(value, SecretStr)
    ]
    if config.api_key is not None:
        credentials.append(Credential(header="x-api-key", secret=config.api_key))
    return Endpoint(
        instance=config.name,
        base_url=config.base_url,
        timeout_seconds=config.timeout_seconds,
        headers={"anthropic-version": VERSION, **headers},
        credentials=tuple(credentials),
    )
