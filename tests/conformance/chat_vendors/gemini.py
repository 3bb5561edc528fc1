"""Google's Gemini API: generateContent and streamGenerateContent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
from pydantic import SecretStr

from app.ports.models import ChatModel
from app.providers.gemini.adapter import Gemini, GeminiConfig
from app.providers.transport import Transport
from tests.conformance.chat_vendors.vendor import KEY, ChatVendor, Said, SaidCall

STATUSES: Final[Mapping[int, str]] = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
REASONS: Final[Mapping[str, str]] = {
    "stop": "STOP",
    "tool_calls": "STOP",
    "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}


def _connect(transport: Transport) -> ChatModel:
    return Gemini(GeminiConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> ChatModel:
    return Gemini(GeminiConfig(name="main"), transport)


def _part(call: SaidCall) -> dict[str, Any]:
    return {"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}}


def _piece(said: Said, parts: Sequence[Mapping[str, Any]], *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    usage = {
        "promptTokenCount": said.input_tokens,
        "totalTokenCount": said.input_tokens + said.output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": said.input_tokens}],
    }
    if last:
        candidate["finishReason"] = REASONS[said.finish_reason]
        usage["candidatesTokenCount"] = said.output_tokens
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": said.model,
        "responseId": "r-1",
    }


def _answer(said: Said) -> Mapping[str, Any]:
    texts = [{"text": said.text}] if said.text else []
    return _piece(said, [*texts, *map(_part, said.calls)], last=True)


def _frames(said: Said) -> Sequence[bytes]:
    parts = [*({"text": piece} for piece in said.pieces), *map(_part, said.calls)]
    pieces = [_piece(said, [part], last=False) for part in parts]
    pieces.append(_piece(said, [{"text": ""}], last=True))
    return [_frame(orjson.dumps(piece)) for piece in pieces]


def _frame(payload: bytes) -> bytes:
    """As Google's servers do: lines end in CRLF."""
    return b"data: " + payload + b"\r\n\r\n"


def _error(status: int, message: str) -> Mapping[str, Any]:
    return {"error": {"code": status, "message": message, "status": STATUSES.get(status, "UNKNOWN")}}


_TOO_LONG: Final = "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576)."

VENDOR: Final = ChatVendor(
    connect=_connect,
    keyless=_keyless,
    answer=_answer,
    frames=_frames,
    error=_error,
    context_error=(400, _error(400, _TOO_LONG)),
    frame_error=_frame(orjson.dumps(_error(503, "The model is overloaded."))),
    frame=_frame,
    reserved=("contents", "model", "systemInstruction", "tools"),
)
