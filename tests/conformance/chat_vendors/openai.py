"""OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors.vendor import KEY, ChatVendor, Said, SaidCall, sse


def _connect(transport: Transport) -> ChatModel:
    return OpenAI(OpenAIConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> ChatModel:
    return OpenAI(OpenAIConfig(name="main"), transport)


def _call(call: SaidCall) -> dict[str, Any]:
    arguments = orjson.dumps(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _usage(said: Said) -> dict[str, int]:
    return {
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.input_tokens + said.output_tokens,
    }


def _answer(said: Said) -> Mapping[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None, "refusal": None}
    if said.calls:
        message["tool_calls"] = [_call(call) for call in said.calls]
    choice = {"index": 0, "message": message, "finish_reason": said.finish_reason, "logprobs": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": said.model,
        "choices": [choice],
        "usage": _usage(said),
    }


def _frames(said: Said) -> Sequence[bytes]:
    def piece(delta: Any, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "model": said.model,
            "choices": [choice],
        }

    pieces = [piece({"role": "assistant", "content": ""}), *(piece({"content": it}) for it in said.pieces)]
    for index, call in enumerate(map(_call, said.calls)):
        arguments = call["function"]["arguments"]
        begun = {**call, "function": {**call["function"], "arguments": arguments[:3]}}
        pieces.append(piece({"tool_calls": [{"index": index, **begun}]}))
        pieces.append(piece({"tool_calls": [{"index": index, "function": {"arguments": arguments[3:]}}]}))
    pieces.append(piece({}, said.finish_reason))
    pieces.append({"object": "chat.completion.chunk", "choices": [], "usage": _usage(said)})
    return [*(sse(orjson.dumps(it)) for it in pieces), b"data: [DONE]\n\n"]


def _error(status: int, message: str) -> Mapping[str, Any]:
    del status  # it is not repeated in the body
    return {"error": {"message": message, "type": "error", "param": None, "code": None}}


_TOO_LONG: Final = {
    "message": "This model's maximum context length is 128000 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}

VENDOR: Final = ChatVendor(
    connect=_connect,
    keyless=_keyless,
    answer=_answer,
    frames=_frames,
    error=_error,
    context_error=(400, {"error": _TOO_LONG}),
    frame_error=sse(orjson.dumps({"error": {"message": "overloaded", "type": "server_error", "code": 503}})),
    reserved=("model", "messages", "stream"),
)
