"""One chat vendor as the suite of `test_chat_model` sees it: its adapter, and what its server says.

A vendor joins by a module here, with a `ChatVendor`, and a line in `VENDORS` of the suite. Its builders
write what the vendor's real server sends, in its own words, for a `Said` or for a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

from app.ports.models import ChatModel, FinishReason
from app.providers.transport import Transport

KEY: Final = "canary-0123456789abcdef"
"""The key that `connect` gives the adapter; the suite looks for it in every message."""
MODEL: Final = "model-1"
JSON: Final = {"content-type": "application/json"}
SSE: Final = {"content-type": "text/event-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidCall:
    """One function that the model asks for."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the model says. Streamed, each of `pieces` comes as a delta of its own."""

    pieces: Sequence[str] = ("Be", "cause ", "it is “so”.")
    calls: Sequence[SaidCall] = ()
    finish_reason: FinishReason = "stop"
    model: str = MODEL
    input_tokens: int = 12
    output_tokens: int = 3

    @property
    def text(self) -> str:
        """The whole."""
        return "".join(self.pieces)


def sse(payload: bytes) -> bytes:
    """A server-sent event."""
    return b"data: " + payload + b"\n\n"


def json_line(payload: bytes) -> bytes:
    """A line of newline-delimited JSON."""
    return payload + b"\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatVendor:
    """One adapter and its vendor's server."""

    connect: Callable[[Transport], ChatModel]
    """The adapter over this transport, with `KEY` as its key."""
    answer: Callable[[Said], Mapping[str, Any]]
    """The body of an answer in one piece."""
    frames: Callable[[Said], Sequence[bytes]]
    """The body of a streamed answer, in the frames that its server sends."""
    error: Callable[[int, str], Mapping[str, Any]]
    """The body of a failure with this status and this message."""
    keyless: Callable[[Transport], ChatModel] | None = None
    """The adapter without a key, at the vendor's own address; None where keys are no matter."""
    context_error: tuple[int, Mapping[str, Any]] | None = None
    """Status and body for a prompt that is longer than the model's context; None where none is told."""
    frame_error: bytes | None = None
    """The frame that says in mid-stream that the server is overloaded; None where there is no such one."""
    frame: Callable[[bytes], bytes] = sse
    """How a payload is framed in a stream."""
    stream_headers: Mapping[str, str] = field(default_factory=lambda: SSE)
    reasons: frozenset[FinishReason] = frozenset({"stop", "length", "tool_calls", "content_filter"})
    """Of the finish reasons, those that the vendor can express."""
    reserved: Sequence[str] = ("model", "messages")
    """Options that the service sets itself: authors cannot replace them."""
    sends_key: bool = True
    """Whether a key goes with every call."""
    keeps_call_ids: bool = True
    """Whether the vendor gives its calls ids; else the adapter makes some."""

    def whole(self, said: Said) -> httpx.Response:
        """The answer in one piece."""
        return httpx.Response(200, content=orjson.dumps(self.answer(said)), headers=JSON)

    def failure(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """An answer that is no success."""
        body = orjson.dumps(self.error(status, message))
        return httpx.Response(status, content=body, headers={**JSON, **(headers or {})})
