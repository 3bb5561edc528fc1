"""Ollama's own chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel
from app.providers.ollama.adapter import Ollama, OllamaConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors.vendor import KEY, ChatVendor, Said, SaidCall, json_line


def _connect(transport: Transport) -> ChatModel:
    return Ollama(OllamaConfig(name="main", api_key=SecretStr(KEY)), transport)


def _piece(said: Said, text: str, calls: Sequence[SaidCall] = ()) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"id": call.id, "function": {"index": place, "name": call.name, "arguments": call.arguments}}
            for place, call in enumerate(calls)
        ]
    return {
        "model": said.model,
        "created_at": "2026-10-17T23:14:07.414671Z",
        "message": message,
        "done": False,
    }


def _done(said: Said) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "stop" if said.finish_reason == "tool_calls" else said.finish_reason,
        "total_duration": 174560334,
        "load_duration": 101397084,
        "prompt_eval_count": said.input_tokens,
        "prompt_eval_duration": 13074791,
        "eval_count": said.output_tokens,
        "eval_duration": 52479709,
    }


def _answer(said: Said) -> Mapping[str, Any]:
    return {**_piece(said, said.text, said.calls), **_done(said)}


def _frames(said: Said) -> Sequence[bytes]:
    pieces = [_piece(said, piece) for piece in said.pieces]
    pieces.extend(_piece(said, "", [call]) for call in said.calls)
    pieces.append({**_piece(said, ""), **_done(said)})
    return [json_line(orjson.dumps(piece)) for piece in pieces]


def _error(status: int, message: str) -> Mapping[str, Any]:
    del status  # it is not repeated in the body
    return {"error": message}


VENDOR: Final = ChatVendor(
    connect=_connect,
    answer=_answer,
    frames=_frames,
    error=_error,
    context_error=(400, {"error": "the input length exceeds the context length"}),
    frame_error=json_line(b'{"error":"an error was encountered while running the model"}'),
    frame=json_line,
    stream_headers={"content-type": "application/x-ndjson"},
    reasons=frozenset({"stop", "length", "tool_calls"}),
    reserved=("messages", "model", "stream", "tools"),
)
