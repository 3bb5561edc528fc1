"""Putting the events of a streamed message together. Events in, deltas and the whole out; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app.ports.models import ChatDelta, ChatResult
from app.providers.anthropic.format import read_finish_reason, read_usage
from app.providers.json_format import Malformed, json_text, load, text
from app.providers.turns import model_call


@dataclass(slots=True)
class _Call:
    """A call in the making: its block, and the JSON text of its arguments in pieces."""

    block: Mapping[str, Any]
    pieces: list[str] = field(default_factory=list)

    def made(self) -> dict[str, Any]:
        """The call, its arguments written as in an answer that was not streamed."""
        return model_call(text(self.block, "id"), text(self.block, "name"), self._arguments())

    def _arguments(self) -> str:
        written = "".join(self.pieces)
        if not written:
            return json_text(self.block.get("input"))
        try:
            return json_text(load(written.encode()))
        except Malformed:  # cut off at the limit of tokens: whoever reads them has to know
            return written


class Assembly:
    """One message in the making. Events and blocks that are not known are passed over."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._stop_reason: object = None
        self._usage: dict[str, Any] = {}
        self.ended = False
        """Whether the server said that nothing more will come."""

    @property
    def complete(self) -> bool:
        """Whether the message came to its end, as against a connection that did."""
        return self.ended or self._stop_reason is not None

    def add(self, event: Mapping[str, Any]) -> ChatDelta | None:
        """Take the next event; the delta to show, if there is one."""
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                self._model = text(message, "model") or self._model
                self._count(message.get("usage") if isinstance(message, dict) else None)
            case "content_block_start":
                return self._begin(event, event.get("content_block"))
            case "content_block_delta":
                return self._extend(event, event.get("delta"))
            case "message_delta":
                delta = event.get("delta")
                reason = delta.get("stop_reason") if isinstance(delta, dict) else None
                self._stop_reason = reason or self._stop_reason
                self._count(event.get("usage"))
            case "message_stop":
                self.ended = True
        return None

    def result(self) -> ChatResult:
        """The whole. Raises `Malformed` when nothing says that it is whole."""
        if not self.complete:
            raise Malformed("the stream ended without a stop reason")
        return ChatResult(
            text="".join(self._texts),
            model=self._model,
            finish_reason=read_finish_reason(self._stop_reason),
            usage=read_usage(self._usage),
            tool_calls=[call.made() for _, call in sorted(self._calls.items())],
        )

    def _begin(self, event: Mapping[str, Any], block: object) -> ChatDelta | None:
        if not isinstance(block, dict):
            return None
        if block.get("type") == "tool_use":
            self._calls[_index(event)] = _Call(block)
        return self._say(text(block, "text")) if block.get("type") == "text" else None

    def _extend(self, event: Mapping[str, Any], delta: object) -> ChatDelta | None:
        if not isinstance(delta, dict):
            return None
        if delta.get("type") == "input_json_delta" and (call := self._calls.get(_index(event))):
            call.pieces.append(text(delta, "partial_json"))
        return self._say(text(delta, "text")) if delta.get("type") == "text_delta" else None

    def _say(self, said: str) -> ChatDelta | None:
        if not said:
            return None
        self._texts.append(said)
        return ChatDelta(text=said)

    def _count(self, usage: object) -> None:
        """Counts are cumulative; a later one replaces an earlier one, and null says nothing."""
        if isinstance(usage, dict):
            self._usage.update((key, value) for key, value in usage.items() if value is not None)


def _index(event: Mapping[str, Any]) -> int:
    index = event.get("index")
    if type(index) is not int:
        raise Malformed("a block has no index")
    return index
