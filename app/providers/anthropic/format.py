"""The bytes of Anthropic's Messages API: requests out, answers in. No I/O.

Follows the API of version 2023-06-01. What the API has no word for is not sent (`seed`), or refused with
what to do. Reading is lenient: unknown blocks are passed over, missing counts are None. What cannot be
understood at all raises `Malformed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.ports.models import ChatRequest, ChatResult, FinishReason, Usage
from app.providers.anthropic.schema import native_schema
from app.providers.anthropic.turns import conversation, system_prompt, tool, tool_choice
from app.providers.json_format import Malformed, VendorError, count, dump, json_text, objects, text
from app.providers.prompted_schema import with_schema
from app.providers.turns import model_call

FINISH_REASONS: Final[Mapping[object, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "unknown",
}
STATUSES: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""What an error in mid-stream would have been as a status."""
RESERVED: Final = frozenset({"model", "messages", "stream", "system"})
"""Keys of a request that options of the author's cannot replace."""
OTHER_LIMITS: Final = frozenset({"max_completion_tokens", "max_output_tokens"})
"""How other vendors call the bound on an answer."""
HIGHEST_TEMPERATURE: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How an instance asks. `native_schemas`: the vendor holds answers to schemas, where it takes them."""

    default_max_tokens: int
    cache_system: bool
    native_schemas: bool


def chat_body(request: ChatRequest, manner: Manner, *, stream: bool) -> bytes:
    """The body of `POST /v1/messages`. Raises `ValueError` for what it cannot carry."""
    _check(request)
    schema = request.response_schema
    enforced = native_schema(schema) if schema is not None and manner.native_schemas else None
    turns = request.messages
    if schema is not None and enforced is None:
        turns = with_schema(turns, schema)
    options = {
        "system": system_prompt(turns, cached=manner.cache_system),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "stop_sequences": request.stop,
        "tools": [tool(it) for it in request.tools] if request.tools else None,
    }
    body: dict[str, Any] = {
        "model": request.model,
        "max_tokens": manner.default_max_tokens if request.max_tokens is None else request.max_tokens,
        "messages": conversation(request.messages),
        **{key: value for key, value in options.items() if value is not None},
        **request.extra,
    }
    if "tool_choice" in body:
        body["tool_choice"] = tool_choice(body["tool_choice"])
    if enforced is not None:
        given = body.get("output_config")
        wanted = {"format": {"type": "json_schema", "schema": enforced}}
        body["output_config"] = {**given, **wanted} if isinstance(given, Mapping) else wanted
    if stream:
        body["stream"] = True
    return dump(body)


def read_completion(answer: Mapping[str, Any], *, model: str) -> ChatResult:
    """A whole message; `model` stands in where the server names none. Thinking is not part of the text."""
    if not isinstance(answer.get("content"), list):
        raise Malformed("it has no content")
    blocks = objects(answer["content"])
    return ChatResult(
        text="".join(text(block, "text") for block in blocks if block.get("type") == "text"),
        model=text(answer, "model") or model,
        finish_reason=read_finish_reason(answer.get("stop_reason")),
        usage=read_usage(answer.get("usage")),
        tool_calls=[
            model_call(text(block, "id"), text(block, "name"), json_text(block.get("input")))
            for block in blocks
            if block.get("type") == "tool_use"
        ],
    )


def read_finish_reason(reason: object) -> FinishReason:
    """Why the model stopped, in our words."""
    return FINISH_REASONS.get(reason, "unknown") if isinstance(reason, str) else "unknown"


def read_usage(usage: object) -> Usage:
    """Token counts. The vendor's own input count leaves out what was read from its cache or written to it."""
    fresh = count(usage, "input_tokens")
    read = count(usage, "cache_read_input_tokens")
    written = count(usage, "cache_creation_input_tokens")
    details = usage.get("output_tokens_details") if isinstance(usage, dict) else None
    return Usage(
        input_tokens=None if fresh is None else fresh + (read or 0) + (written or 0),
        output_tokens=count(usage, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=count(details, "thinking_tokens"),
    )


def read_error(answer: object) -> VendorError | None:
    """The error an answer or an event holds."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return None
    kind = text(error, "type")
    return VendorError(
        code=str(STATUSES.get(kind, "")), type=kind, message=text(error, "message") or "no reason was given"
    )


def _check(request: ChatRequest) -> None:
    for key in sorted(request.extra):
        if key in RESERVED:
            raise ValueError(f"remove {key!r} from the extra options: the service sets it")
        if key in OTHER_LIMITS:
            raise ValueError(f"remove {key!r} from the extra options: Anthropic's API has 'max_tokens' only")
    if request.temperature is not None and request.temperature > HIGHEST_TEMPERATURE:
        raise ValueError(
            f"a 'temperature' of {request.temperature:g} is too high: Anthropic's API takes 0 to 1"
        )
