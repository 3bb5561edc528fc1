"""Mistral's chat completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel
from app.providers.mistral import Mistral, MistralConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors import openai
from tests.conformance.chat_vendors.vendor import KEY, Said, SaidCall, sse


def _connect(transport: Transport) -> ChatModel:
    return Mistral(MistralConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> ChatModel:
    return Mistral(MistralConfig(name="main"), transport)


def _call(index: int, call: SaidCall) -> dict[str, Any]:
    """Calls come whole, streamed or not, and without a type."""
    arguments = orjson.dumps(call.arguments).decode()
    return {"id": call.id, "index": index, "function": {"name": call.name, "arguments": arguments}}


def _reason(said: Said) -> str:
    return "model_length" if said.finish_reason == "length" else said.finish_reason


def _usage(said: Said) -> dict[str, int]:
    total = said.input_tokens + said.output_tokens
    return {
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": total,
    }


def _answer(said: Said) -> Mapping[str, Any]:
    calls = [_call(*numbered) for numbered in enumerate(said.calls)] or None
    message = {"role": "assistant", "content": said.text, "tool_calls": calls, "prefix": False}
    choice = {"index": 0, "message": message, "finish_reason": _reason(said)}
    return {
        "id": "cmpl-1",
        "object": "chat.completion",
        "model": said.model,
        "choices": [choice],
        "usage": _usage(said),
    }


def _frames(said: Said) -> Sequence[bytes]:
    """The counts come with the finish reason, unasked."""

    def piece(delta: Any, reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        made = {"id": "cmpl-1", "object": "chat.completion.chunk", "model": said.model, "choices": [choice]}
        return sse(orjson.dumps({**made, **more}))

    calls = [_call(*numbered) for numbered in enumerate(said.calls)]
    last = {"content": "", "tool_calls": calls} if calls else {"content": ""}
    return [
        piece({"role": "assistant", "content": ""}),
        *(piece({"content": it}) for it in said.pieces),
        piece(last, _reason(said), usage=_usage(said)),
        b"data: [DONE]\n\n",
    ]


def _error(status: int, message: str) -> Mapping[str, Any]:
    kind = "invalid_request_error"
    return {
        "object": "error",
        "message": message,
        "type": kind,
        "param": None,
        "code": None,
        "status": status,
    }


_TOO_LONG: Final = "Prompt contains 40001 tokens, too large for model with 32768 maximum context length"

VENDOR: Final = replace(
    openai.VENDOR,
    connect=_connect,
    keyless=_keyless,
    answer=_answer,
    frames=_frames,
    error=_error,
    context_error=(400, {**_error(400, _TOO_LONG), "code": "3051"}),
    frame_error=sse(orjson.dumps(_error(503, "overloaded"))),
    reasons=frozenset({"stop", "length", "tool_calls"}),
)
