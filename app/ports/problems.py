"""One way to say what is wrong with a document or a value, wherever it was found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing to mend.

    `pointer` is a JSON Pointer (RFC 6901) into the document, `""` for the whole of it.
    `line` and `column` count from 1 and are absent where the source text is not known.
    `hint` says how to mend it.
    """

    pointer: str
    detail: str
    hint: str | None = None
    line: int | None = None
    column: int | None = None


def pointer(*parts: str | int) -> str:
    """Join reference tokens to a JSON Pointer, escaped as RFC 6901 section 3 says."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
