"""Cutting long texts into pieces that a model can take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.steps.fields import Int
from app.steps.kind import Templated
from app.steps.templates import holds_template
from app.steps.transforms.function import (
    MISSING,
    Parameters,
    as_text,
    bounded,
    items_of,
    look_up,
    refuse,
    within_items,
)
from app.steps.transforms.selecting import Path

BORDERS: Final = ("\n\n", "\n", ". ", "! ", "? ", " ")
"""Where a text is best cut, best first: after a paragraph, a line, a sentence, a word."""


class Pieces(Parameters):
    """Sizes in characters."""

    size: Templated[Annotated[Int, Field(ge=1, le=100_000)]] = 1_000
    overlap: Templated[Annotated[Int, Field(ge=0, le=50_000)]] = 0
    key: Templated[Path] | None = None

    @model_validator(mode="after")
    def _gets_on(self) -> Pieces:
        if not holds_template([self.size, self.overlap]) and self.overlap * 2 > self.size:
            raise PydanticCustomError("overlap", "'overlap' is at most half of 'size'")
        return self


def chunk(inputs: Sequence[Any], parameters: Pieces) -> list[Any]:
    """Pieces of at most `size` characters of every text, in order; neighbours share up to `overlap`.

    Cuts fall after a paragraph, else a line, a sentence, a word, and inside a word only when there is no
    better place in the second half of the piece. Nothing is lost but pieces of white space alone.

    With `key`, items are objects whose text stands at that key, and each piece becomes a copy of its
    object with the piece in place of the text and `chunk`, its number within the text, from 0.
    """
    pieces: list[Any] = []
    for item in items_of(inputs):
        text = _text(item, parameters.key)
        found = (text[start:end] for start, end in spans(text, parameters.size, parameters.overlap))
        for number, piece in enumerate(filter(str.strip, found)):
            pieces.append(_copy(item, parameters.key, piece, number))
        within_items(len(pieces))
    return bounded(pieces)


def spans(text: str, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Start and end of every piece: the first starts at 0, the last ends at the text's end, none leaves a
    gap to the one before, each is at most `size` long. `overlap` is at most half of `size`.
    """
    start = 0
    while len(text) - start > size:
        earliest = start + overlap + max(1, (size - overlap) // 2)
        end = _border(text, earliest, start + size)
        yield start, end
        start = _word_start(text, end - overlap, end)
    if start < len(text):
        yield start, len(text)


def _border(text: str, earliest: int, latest: int) -> int:
    for border in BORDERS:
        # The border belongs to the piece before it, so it must end at or before `latest`.
        found = text.rfind(border, max(earliest - len(border), 0), latest)
        if found != -1 and found + len(border) >= earliest:
            return found + len(border)
    return latest


def _word_start(text: str, earliest: int, end: int) -> int:
    """Where the overlap begins: at the first word that is whole, if there is one."""
    if earliest == end or text[earliest - 1].isspace():
        return earliest
    space = text.find(" ", earliest, end)
    return earliest if space == -1 else space + 1


def _text(item: Any, key: str | None) -> str:
    if key is None:
        return as_text(item, function="chunk")
    value = look_up(item, key)
    if value is MISSING or not isinstance(item, dict) or key not in item:
        raise refuse(f"'chunk' found an item without a text at {key!r}")
    return as_text(value, function="chunk")


def _copy(item: Any, key: str | None, piece: str, number: int) -> Any:
    return piece if key is None else {**item, key: piece, "chunk": number}
