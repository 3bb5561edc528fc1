"""Cutting long texts into pieces that a model can take: chunk.

Where a text may be cut is in `borders`, how long a piece is in `measures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.steps.fields import Int
from app.steps.kind import Templated, is_template
from app.steps.transforms.borders import Border, borders
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
from app.steps.transforms.measures import Unit, measure
from app.steps.transforms.selecting import Path

DEFAULT_SIZES: Final[dict[Unit, int]] = {"characters": 1_000, "tokens": 250}
METADATA: Final = "metadata"


class Pieces(Parameters):
    """`size` and `overlap` count what `by` names; without a size it is that of `DEFAULT_SIZES`."""

    by: Templated[Unit] = "characters"
    size: Templated[Annotated[Int, Field(ge=1, le=100_000)]] | None = None
    overlap: Templated[Annotated[Int, Field(ge=0, le=50_000)]] = 0
    border: Templated[Border] = "paragraph"
    key: Templated[Path] = "text"

    @model_validator(mode="after")
    def _gets_on(self) -> Pieces:
        known = not any(map(is_template, (self.by, self.size, self.overlap)))
        if known and self.overlap * 2 > self.length:
            raise PydanticCustomError(
                "overlap", "'overlap' is at most half of 'size', which is {size}", {"size": self.length}
            )
        return self

    @property
    def length(self) -> int:
        """The size that holds."""
        return DEFAULT_SIZES[self.by] if self.size is None else self.size


def chunk(inputs: Sequence[Any], parameters: Pieces) -> list[dict[str, Any]]:
    """Pieces of every text, in order: `[{text, index, start, end, metadata, document}]`.

    The inputs are texts, or documents: objects with a text at `key` (`text`). `text` is the part of it
    from `start` to `end` (positions in characters), `index` the piece's number within its text and
    `document` the text's number, all from 0. `metadata` holds what the object has besides its text, the
    entries of its own `metadata` among them; `{}` for a bare text.

    No piece is longer than `size`. Neighbours share at most `overlap`, and begin with a whole word.
    Cuts fall in the second half of a piece, at the best border there is: for `border: paragraph` after a
    paragraph, else a sentence, a line, a word, else anywhere; `sentence` and `word` begin further down
    this list, `none` cuts by length alone. Nothing is lost but pieces of white space alone.
    """
    pieces: list[dict[str, Any]] = []
    for document, item in enumerate(items_of(inputs)):
        text, metadata = _document(item, parameters.key)
        found = ((start, end) for start, end in spans(text, parameters) if not text[start:end].isspace())
        for index, (start, end) in enumerate(found):
            piece = {"text": text[start:end], "index": index, "start": start, "end": end}
            pieces.append({**piece, METADATA: metadata, "document": document})
            within_items(len(pieces))
    return bounded(pieces)


def spans(text: str, parameters: Pieces) -> Iterator[tuple[int, int]]:
    """Start and end of every piece: the first starts at 0, the last ends at the text's end, none leaves a
    gap to the one before. An empty text has none.
    """
    if not text:
        return
    size, overlap = parameters.length, parameters.overlap
    # Half of what is new must be in a piece, so that small borders do not make many small pieces.
    least = overlap + max(1, (size - overlap) // 2)
    ruler, places = measure(text, parameters.by), borders(text, parameters.border)
    start = 0
    while (latest := ruler.reach(start, size)) < len(text):
        end = places.best(ruler.reach(start, least), latest)
        yield start, end
        start = places.first_word(ruler.back(end, overlap), end)
    yield start, len(text)


def _document(item: Any, key: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(item, dict):
        return as_text(item, function="chunk"), {}
    text = look_up(item, key)
    if text is MISSING:
        raise refuse(f"'chunk' found an object without a text at {key!r}; name where it is with 'key'")
    within = key not in item and key.startswith(f"{METADATA}.")
    own = item.get(METADATA)
    besides = {name: value for name, value in item.items() if name not in (METADATA, _root(item, key))}
    if not isinstance(own, dict):
        return as_text(text, function="chunk"), besides
    inner = _root(own, key.removeprefix(f"{METADATA}.")) if within else None
    return as_text(text, function="chunk"), {
        **besides,
        **{name: value for name, value in own.items() if name != inner},
    }


def _root(item: dict[str, Any], key: str) -> str:
    """The key of an object under which a path begins."""
    return key if key in item else key.partition(".")[0]
