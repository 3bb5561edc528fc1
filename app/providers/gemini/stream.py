"""Putting the pieces of an answer together. Pieces in, deltas and the whole out; no I/O.

An answer that is not streamed is a stream of one piece. Thoughts are no part of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.ports.models import ChatDelta, ChatResult, FinishReason
from app.providers.gemini.format import read_usage
from app.providers.gemini.turns import read_call
from app.providers.json_format import Malformed, objects, text

FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "BLOCKLIST": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "SPII": "content_filter",
    "MODEL_ARMOR": "content_filter",
    "IMAGE_SAFETY": "content_filter",
    "IMAGE_PROHIBITED_CONTENT": "content_filter",
    "IMAGE_RECITATION": "content_filter",
}
BROKEN: Final = frozenset({"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"})
"""Ends of an answer that the model made a mess of: asked again, it may answer better."""


class Assembly:
    """One answer in the making; `complete` once the server said why it stopped."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._texts: list[str] = []
        self._tool_calls: list[dict[str, Any]] = []
        self._finish_reason = ""
        self._usage: object = None

    @property
    def complete(self) -> bool:
        """Whether the answer came to its end, as against a connection that did."""
        return bool(self._finish_reason)

    @property
    def ended(self) -> bool:
        """Never: nothing but the end of the stream says so."""
        return False

    def add(self, piece: Mapping[str, Any]) -> ChatDelta | None:
        """Take the next piece; the delta to show, if there is one. Raises `Malformed` for a broken answer."""
        self._model = text(piece, "modelVersion") or self._model
        self._usage = piece.get("usageMetadata") or self._usage
        candidate = next(iter(objects(piece.get("candidates"))), None)
        if candidate is None:
            return None
        reason = text(candidate, "finishReason")
        if reason in BROKEN:
            said = text(candidate, "finishMessage")
            raise Malformed(f"the model ended with {reason}" + (f": {said[:200]}" if said else ""))
        self._finish_reason = reason or self._finish_reason
        content = candidate.get("content")
        said = self._add_parts(objects(content.get("parts")) if isinstance(content, dict) else [])
        return ChatDelta(text=said) if said else None

    def result(self) -> ChatResult:
        """The whole. Raises `Malformed` when nothing says that it is whole."""
        if not self.complete:
            raise Malformed("it has no candidate that says why it ended")
        reason = FINISH_REASONS.get(self._finish_reason, "unknown")
        return ChatResult(
            text="".join(self._texts),
            model=self._model,
            finish_reason="tool_calls" if reason == "stop" and self._tool_calls else reason,
            usage=read_usage(self._usage),
            tool_calls=self._tool_calls,
        )

    def _add_parts(self, parts: list[dict[str, Any]]) -> str:
        said = "".join(text(part, "text") for part in parts if part.get("thought") is not True)
        if said:
            self._texts.append(said)
        for part in parts:
            call = read_call(part, place=len(self._tool_calls))
            if call is not None:
                self._tool_calls.append(call)
        return said
