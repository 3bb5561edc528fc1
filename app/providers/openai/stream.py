"""Putting the pieces of a streamed completion together. Events in, deltas and the whole out; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.ports.models import ChatDelta, ChatResult
from app.providers.json_format import Malformed, objects, text
from app.providers.openai.format import (
    arguments_text,
    content_text,
    model_name,
    read_finish_reason,
    read_usage,
)

_OF_PIECES: Final = frozenset({"index", "id", "type", "function", "custom"})
"""Keys of a piece of a tool call that come bit by bit; others come whole."""


class Assembly:
    """One answer in the making; `complete` once the server said why it stopped."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._by_id: dict[str, int] = {}
        self._last = -1
        """The highest number of a call."""
        self._finish_reason: object = None
        self._refused = False
        self._usage: object = None

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, as against a connection that did."""
        return self._finish_reason is not None

    @property
    def ended(self) -> bool:
        """Never: the counts come after the finish reason."""
        return False

    def add(self, piece: Mapping[str, Any]) -> ChatDelta | None:
        """Take the next piece; the delta to show, if there is one."""
        self._model = model_name(piece, self._model)
        self._usage = _usage(piece) or self._usage
        choice = _choice(piece)
        if choice is None:
            return None
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return None
        for call in objects(delta.get("tool_calls")):
            self._add_tool_call(call)
        if isinstance(old := delta.get("function_call"), dict):
            self._add_tool_call({"index": 0, "function": old})
        refusal = content_text(delta.get("refusal"))
        self._refused = self._refused or bool(refusal)
        said = content_text(delta.get("content")) or refusal
        if not said:
            return None
        self._texts.append(said)
        return ChatDelta(text=said)

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
        index = piece.get("index")
        if index is None or self._begins_another(index, piece):
            index = self._index_of(text(piece, "id"))
        if type(index) is not int:
            raise Malformed("a tool call has no index")
        call = self._tool_calls.setdefault(index, {"id": "", "type": "function"})
        self._last = max(self._last, index)
        call["id"] = text(piece, "id") or call["id"]
        self._by_id.setdefault(call["id"], index)
        call["type"] = text(piece, "type") or call["type"]
        call.update((key, value) for key, value in piece.items() if key not in _OF_PIECES)
        if isinstance(custom := piece.get("custom"), dict):
            _join(call.setdefault("custom", {"name": "", "input": ""}), custom)
        else:
            function = piece.get("function")
            whole = call.setdefault("function", {"name": "", "arguments": ""})
            if isinstance(function, dict):
                _join(whole, function)

    def _begins_another(self, index: object, piece: Mapping[str, Any]) -> bool:
        """Whether a piece begins a call of its own at a place that is taken: some number all calls 0."""
        begun = self._tool_calls.get(index) if type(index) is int else None
        named = begun is not None and text(begun.get("function"), "name")
        begins = text(piece, "id") and text(piece.get("function"), "name")
        return bool(begun and named and begins and text(piece, "id") != begun["id"])

    def _index_of(self, id: str) -> int:
        """For servers that do not number the calls: a new id begins the next one."""
        if not id:
            return max(self._last, 0)
        return self._by_id.get(id, self._last + 1)


def _join(whole: dict[str, str], piece: Mapping[str, Any]) -> None:
    """Add a piece's texts to those that are there; arguments that come as an object come whole."""
    for key in whole:
        value = piece.get(key)
        whole[key] += arguments_text(value) if isinstance(value, dict) else content_text(value)


def _choice(piece: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The piece of the first choice; of several choices that were asked for, the others go unread."""
    for choice in objects(piece.get("choices")):
        if choice.get("index") in (None, 0):
            return choice
    return None


def _usage(piece: Mapping[str, Any]) -> object:
    """The counts of a piece; one server has them in a part of its own."""
    usage = piece.get("usage")
    if not usage and isinstance(own := piece.get("x_groq"), dict):
        usage = own.get("usage")
    return usage
