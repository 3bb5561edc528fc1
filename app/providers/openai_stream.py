"""Putting the pieces of a streamed completion together. Events in, deltas and the whole out; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.ports.models import ChatDelta, ChatResult
from app.providers.json_format import Malformed, objects
from app.providers.openai_format import (
    content_text,
    first_choice,
    model_name,
    read_finish_reason,
    read_usage,
)


class Assembly:
    """One answer in the making; `complete` once the server said why it stopped."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._finish_reason: object = None
        self._refused = False
        self._usage: object = None

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, as against a connection that did."""
        return self._finish_reason is not None

    def add(self, piece: Mapping[str, Any]) -> ChatDelta | None:
        """Take the next piece; the delta to show, if there is one."""
        self._model = model_name(piece, self._model)
        self._usage = piece.get("usage") or self._usage
        choice = first_choice(piece)
        if choice is None:
            return None
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return None
        for call in objects(delta.get("tool_calls")):
            self._add_tool_call(call)
        refusal = content_text(delta.get("refusal"))
        self._refused = self._refused or bool(refusal)
        text = content_text(delta.get("content")) or refusal
        if not text:
            return None
        self._texts.append(text)
        return ChatDelta(text=text)

    def result(self) -> ChatResult:
        """The whole. Raises `Malformed` when nothing says that it is whole."""
        if not self.complete:
            raise Malformed("the stream ended without a finish reason")
        return ChatResult(
            text="".join(self._texts),
            model=self._model,
            finish_reason="content_filter" if self._refused else read_finish_reason(self._finish_reason),
            usage=read_usage(self._usage),
            tool_calls=[call for _, call in sorted(self._tool_calls.items())],
        )

    def _add_tool_call(self, piece: Mapping[str, Any]) -> None:
        index = piece.get("index", 0)
        if type(index) is not int:
            raise Malformed("a tool call has no index")
        fresh = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        call = self._tool_calls.setdefault(index, fresh)
        call["id"] = piece.get("id") or call["id"]
        function = piece.get("function")
        if isinstance(function, dict):
            for key in ("name", "arguments"):
                call["function"][key] += content_text(function.get(key))
