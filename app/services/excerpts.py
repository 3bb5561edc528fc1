"""Values cut to a size that fits into an answer: JSON stays JSON, only with less in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

ELLIPSIS: Final = "…"
DEEPEST: Final = 6
"""Levels of an excerpt; what is deeper is left out."""
LONGEST_NAME: Final = 200
"""Characters of a member's name."""
_MEMBER: Final = 8
"""Characters that a list item or a member costs besides its own."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A value, or the beginning of one."""

    value: Any
    cut: bool
    """Something was left out: an ellipsis stands where texts, lists and objects go on."""


def excerpt(value: Any, *, size: int) -> Excerpt:
    """At most about `size` characters of a JSON value. The cost grows with `size`, not with the value."""
    knife = _Knife(size)
    return Excerpt(knife.value(value, 0), knife.cut)


class _Knife:
    """What is left of one excerpt's size."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.cut = False

    def value(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, (Mapping, list, tuple)):
            if depth >= DEEPEST and value:
                self.cut = True
                return ELLIPSIS
            return self._object(value, depth) if isinstance(value, Mapping) else self._list(value, depth)
        self._left -= _MEMBER
        return value

    def _text(self, text: str) -> str:
        if len(text) <= max(0, self._left):
            self._left -= len(text)
            return text
        shown, self._left = text[: max(0, self._left)], 0
        self.cut = True
        return shown + ELLIPSIS

    def _object(self, value: Mapping[str, Any], depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            if self._left <= 0:
                self.cut = True
                found[ELLIPSIS] = ELLIPSIS
                break
            name = key if len(key) <= LONGEST_NAME else key[:LONGEST_NAME] + ELLIPSIS
            self.cut |= name is not key
            self._left -= len(name) + _MEMBER
            found[name] = self.value(item, depth + 1)
        return found

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        found: list[Any] = []
        for item in value:
            if self._left <= 0:
                self.cut = True
                found.append(ELLIPSIS)
                break
            self._left -= _MEMBER
            found.append(self.value(item, depth + 1))
        return found
