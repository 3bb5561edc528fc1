"""Anthropic's Messages API, its events named and pinged as the vendor's server does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel, FinishReason
from app.providers.anthropic.adapter import Anthropic, AnthropicConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors.vendor import KEY, ChatVendor, Said, SaidCall

STOP_REASONS: Final[Mapping[FinishReason, str]] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
ERROR_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def _connect(transport: Transport) -> ChatModel:
    return Anthropic(AnthropicConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> ChatModel:
    return Anthropic(AnthropicConfig(name="main"), transport)


def _call(call: SaidCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


def answer(said: Said) -> dict[str, Any]:
    """A message in one piece."""
    texts = [{"type": "text", "text": said.text, "citations": None}] if said.text else []
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": [*texts, *map(_call, said.calls)],
        "stop_reason": STOP_REASONS[said.finish_reason],
        "stop_sequence": None,
        "usage": {
            "input_tokens": said.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": said.output_tokens,
        },
    }


def events(said: Said) -> Sequence[dict[str, Any]]:
    """The same message as it is streamed."""
    begun = answer(said) | {"content": [], "stop_reason": None}
    begun["usage"] = begun["usage"] | {"output_tokens": 1}
    made: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    if said.pieces:
        made += [_begun(0, {"type": "text", "text": "", "citations": None}), {"type": "ping"}]
        made += [_delta(0, {"type": "text_delta", "text": piece}) for piece in said.pieces]
        made.append({"type": "content_block_stop", "index": 0})
    for index, call in enumerate(said.calls, start=1 if said.pieces else 0):
        arguments = orjson.dumps(call.arguments).decode().replace(":", ": ") if call.arguments else ""
        made.append(_begun(index, _call(call) | {"input": {}}))
        made += [
            _delta(index, {"type": "input_json_delta", "partial_json": part})
            for part in ("", arguments[:3], arguments[3:])
        ]
        made.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": STOP_REASONS[said.finish_reason], "stop_sequence": None}
    made.append({"type": "message_delta", "delta": ended, "usage": {"output_tokens": said.output_tokens}})
    return [*made, {"type": "message_stop"}]


def _begun(index: int, block: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, delta: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def frame(event: Mapping[str, Any]) -> bytes:
    """An event as it is sent: with its name."""
    return f"event: {event['type']}\ndata: ".encode() + orjson.dumps(event) + b"\n\n"


def error(status: int, message: str) -> dict[str, Any]:
    """The body of a failure."""
    kind = ERROR_TYPES.get(status, "api_error" if status > 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


VENDOR: Final = ChatVendor(
    connect=_connect,
    keyless=_keyless,
    answer=answer,
    frames=lambda said: [frame(event) for event in events(said)],
    error=error,
    context_error=(400, error(400, "prompt is too long: 215001 tokens > 200000 maximum")),
    frame_error=frame(error(529, "Overloaded")),
    reserved=("model", "messages", "stream", "system"),
)
