"""Putting the events of a streamed Cohere answer together. Events in, deltas and the whole out; no I/O.

Tool calls come one after the other, each with its index; plans, thoughts and citations are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.ports.models import ChatDelta, ChatResult
from app.providers.cohere.format import read_finish_reason, read_usage
from app.providers.json_format import Malformed, text


class Assembly:
    """One answer in the making; `complete` once Cohere said that it has ended."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._end: Mapping[str, Any] | None = None

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, as against a connection that did."""
        return self._end is not None

    @property
    def ended(self) -> bool:
        """Its end is the last event."""
        return self.complete

    def add(self, event: Mapping[str, Any]) -> ChatDelta | None:
        """Take the next event; the delta to show, if there is one."""
        delta = event.get("delta")
        if not isinstance(delta, dict):
            return None
        message = delta.get("message")
        match event.get("type"):
            case "content-start" | "content-delta" if isinstance(message, dict):
                return self._add_text(text(message.get("content"), "text"))
            case "tool-call-start" | "tool-call-delta" if isinstance(message, dict):
                self._add_tool_call(event.get("index"), message.get("tool_calls"))
            case "message-end":
                self._end = delta
        return None

    def result(self) -> ChatResult:
        """The whole. Raises `Malformed` when nothing says that it is whole."""
        if self._end is None:
            raise Malformed("the stream ended without the end of the message")
        return ChatResult(
            text="".join(self._texts),
            model=self._model,
            finish_reason=read_finish_reason(self._end.get("finish_reason")),
            usage=read_usage(self._end.get("usage")),
            tool_calls=[call for _, call in sorted(self._tool_calls.items())],
        )

    def _add_text(self, piece: str) -> ChatDelta | None:
        if not piece:
            return None
        self._texts.append(piece)
        return ChatDelta(text=piece)

    def _add_tool_call(self, index: object, piece: object) -> None:
        if type(index) is not int:
            raise Malformed("a tool call has no index")
        fresh = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._tool_calls.setdefault(index, fresh)
        if isinstance(piece, dict):
            call["id"] = text(piece, "id") or call["id"]
            for key in ("name", "arguments"):
                call["function"][key] += text(piece.get("function"), key)
