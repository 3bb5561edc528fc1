"""Hints for misspelt names, at a bounded cost."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Final

FEW_NAMES: Final = 8
LONGEST_NAME: Final = 64


class Speller:
    """Compares at most `comparisons` names, then knows no more hints.

    A comparison costs microseconds, and a hostile document has thousands of names and of misspellings.
    """

    __slots__ = ("_comparisons",)

    def __init__(self, comparisons: int) -> None:
        self._comparisons = comparisons

    @property
    def exhausted(self) -> bool:
        """Whether there will be no more hints."""
        return self._comparisons < 0

    def nearest(self, name: str, known: Collection[str], *, likeness: float = 0.6) -> str | None:
        """The known name that was probably meant; None where none is as like as that (at most 1)."""
        if self.exhausted:
            return None
        self._comparisons -= len(known)
        if self.exhausted:
            return None
        near = get_close_matches(name[:LONGEST_NAME], known, n=1, cutoff=likeness)
        return near[0] if near else None

    def hint(self, name: str, known: Collection[str], *, few: int = FEW_NAMES) -> str | None:
        """A sentence naming what was probably meant, or what there is to choose from if that is little."""
        if self.exhausted:
            return None
        if near := self.nearest(name, known):
            return f"did you mean {near!r}?"
        if 0 < len(known) <= few:
            return "use one of " + ", ".join(repr(other) for other in known)
        return None
