"""Cohere's v2 chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors.vendor import KEY, ChatVendor, Said, SaidCall, sse

REASONS: Final = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


def _connect(transport: Transport) -> ChatModel:
    return Cohere(CohereConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> ChatModel:
    return Cohere(CohereConfig(name="main"), transport)


def _call(call: SaidCall) -> dict[str, Any]:
    arguments = orjson.dumps(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _usage(said: Said) -> dict[str, Any]:
    """Cohere counts its own instructions too, and does not bill them."""
    return {
        "billed_units": {"input_tokens": said.input_tokens, "output_tokens": said.output_tokens},
        "tokens": {"input_tokens": said.input_tokens + 900, "output_tokens": said.output_tokens + 60},
        "cached_tokens": 0,
    }


def answer(said: Said) -> Mapping[str, Any]:
    """The body of an answer in one piece. What the model thought comes first."""
    content: list[dict[str, str]] = [{"type": "thinking", "thinking": "Let me see."}]
    if said.text:
        content.append({"type": "text", "text": said.text})
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if said.calls:
        message |= {"tool_plan": "I will look it up.", "tool_calls": [_call(call) for call in said.calls]}
    return {
        "id": "c14c80c3",
        "finish_reason": REASONS[said.finish_reason],
        "message": message,
        "usage": _usage(said),
    }


def events(said: Said) -> Sequence[Mapping[str, Any]]:
    """The payloads of a streamed answer."""

    def event(kind: str, message: Mapping[str, Any] | None = None, index: int | None = None) -> Any:
        made: dict[str, Any] = {"type": kind}
        if index is not None:
            made["index"] = index
        return made if message is None else {**made, "delta": {"message": message}}

    fresh = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    made = [{"id": "29f14a5a", **event("message-start", fresh)}]
    if said.pieces:
        made.append(event("content-start", {"content": {"type": "text", "text": ""}}, 0))
        made += [event("content-delta", {"content": {"text": piece}}, 0) for piece in said.pieces]
        made.append(event("content-end", None, 0))
    if said.calls:
        made.append(event("tool-plan-delta", {"tool_plan": "I will look it up."}))
    for index, call in enumerate(map(_call, said.calls)):
        arguments = call["function"]["arguments"]
        begun = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
        made.append(event("tool-call-start", {"tool_calls": begun}, index))
        for piece in (arguments[:3], arguments[3:]):
            made.append(event("tool-call-delta", {"tool_calls": {"function": {"arguments": piece}}}, index))
        made.append(event("tool-call-end", None, index))
    end = {"finish_reason": REASONS[said.finish_reason], "usage": _usage(said)}
    return [*made, {"type": "message-end", "delta": end}]


def _frames(said: Said) -> Sequence[bytes]:
    return [f"event: {it['type']}\n".encode() + sse(orjson.dumps(it)) for it in events(said)]


def error(status: int, message: str) -> Mapping[str, Any]:
    """The body of a failure."""
    del status  # it is not repeated in the body
    return {"id": "07734bd2", "message": message}


_FAILED: Final = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "overloaded"}}

VENDOR: Final = ChatVendor(
    connect=_connect,
    keyless=_keyless,
    answer=answer,
    frames=_frames,
    error=error,
    context_error=(400, {"message": "too many tokens: size limit exceeded by 11326 tokens."}),
    frame_error=sse(orjson.dumps(_FAILED)),
    reasons=frozenset({"stop", "length", "tool_calls"}),
    reserved=("model", "messages", "stream"),
)
