"""Anthropic's Messages API, and servers that speak it: maps in, calls, maps out.

`format`, `turns`, `schema` and `stream` hold the format, `vendor_api` the calls. Retries, limits, metrics
and tracing are not here. Anthropic's errors are a type that says what the status says, and a sentence;
where the sentence says more, it is looked at.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import ErrorClass
from app.ports.models import CallContext, ChatDelta, ChatRequest, ChatResult
from app.providers.anthropic import format as fmt
from app.providers.anthropic.stream import Assembly
from app.providers.chat_streams import streamed
from app.providers.json_api import endpoint_of, is_set, key_in
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
        headers = {"anthropic-version": VERSION, **config.headers}
        endpoint = endpoint_of(config, key_in("x-api-key", config.api_key), headers)
        self._api = VendorApi(transport, endpoint, read_error=fmt.read_error, classify=classify)
        self._manner = fmt.Manner(
            default_max_tokens=config.default_max_tokens,
            cache_system=config.cache_system,
            native_schemas=config.structured_outputs == "native",
        )
        is_official = urlsplit(config.base_url).hostname == OFFICIAL_HOST
        self._lacks_key = is_official and not is_set(config.api_key)

    async def complete(self, request: ChatRequest, context: CallContext) -> ChatResult:
        """See `ChatModel`."""
        answer = await self._api.post(PATH, self._body(request, stream=False), context)
        return self._api.read(fmt.read_completion, answer, model=request.model)

    def stream(self, request: ChatRequest, context: CallContext) -> AsyncIterator[ChatDelta | ChatResult]:
        """See `ChatModel`. A server that ignores the wish to stream yields one delta."""
        body = self._body(request, stream=True)
        read_whole = partial(fmt.read_completion, model=request.model)
        return streamed(self._api, PATH, body, context, Assembly(request.model), read_whole=read_whole)

    def _body(self, request: ChatRequest, *, stream: bool) -> bytes:
        if self._lacks_key:
            raise self._api.lacks_key()
        return self._api.written(fmt.chat_body, request, self._manner, stream=stream)


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `Classify`."""
    if error.type == "billing_error":
        return "rate_limit"
    if status != _BAD_REQUEST:
        return None
    return next((found for words, found in SENTENCES.items() if words.search(error.message)), None)
