"""Two JSON values, difference by difference, each with its JSON Pointer (RFC 6901), at a bounded cost.

Lists are compared by position. What is compared and what is told are bounded for all values of one answer
together; a difference that was not told of leaves `complete` false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Literal

import orjson

from app.ports.problems import pointer
from app.services.excerpts import excerpt
from app.services.text_diffs import TextDiffer

MOST_VISITS: Final = 300_000
"""Values that are looked at for one answer."""
MOST_CHANGES: Final = 1_000
"""Changes that one answer tells."""
MOST_OF_ONE: Final = 50
"""Changes that are told of one value."""
VALUE_SIZE: Final = 400
"""Characters of a value that are shown."""
LONG_TEXT: Final = 80
"""Characters of a text that is shown as a diff."""

_ABSENT: Final = object()
_SORTED: Final = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS

ChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference. `a` and `b` are excerpts; `diff` is a unified diff where both are long texts."""

    pointer: str
    change: ChangeKind
    a: Any = None
    b: Any = None
    diff: str | None = None
    cut: bool = False
    """Something of it is not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How two values differ. `complete`: every change is told."""

    same: bool
    changes: Sequence[Change] = ()
    complete: bool = True


class Differ:
    """The account of one answer."""

    def __init__(self) -> None:
        self._visits = MOST_VISITS
        self._changes = MOST_CHANGES
        self._texts = TextDiffer()

    def compare(self, a: Any, b: Any) -> Difference:
        """What is different."""
        if same(a, b):
            return Difference(same=True)
        found: list[Change] = []
        for change in self._walk("", a, b):
            if len(found) == MOST_OF_ONE or not self._changes:
                return Difference(same=False, changes=found, complete=False)
            self._changes -= 1
            found.append(change)
        return Difference(same=False, changes=found, complete=self._visits > 0)

    def _walk(self, at: str, a: Any, b: Any) -> Iterator[Change]:
        self._visits -= 1
        if self._visits <= 0:
            return
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for key in dict.fromkeys([*a, *b]):
                yield from self._member(at + pointer(key), a.get(key, _ABSENT), b.get(key, _ABSENT))
        elif isinstance(a, list) and isinstance(b, list):
            for index, (one, other) in enumerate(zip_longest(a, b, fillvalue=_ABSENT)):
                yield from self._member(f"{at}/{index}", one, other)
                if self._visits <= 0:
                    return
        elif type(a) is not type(b) or a != b:
            yield self._changed(at, a, b)

    def _member(self, at: str, a: Any, b: Any) -> Iterator[Change]:
        """A member of two objects, or an item of two lists, that one of them may not have."""
        if a is _ABSENT:
            shown = excerpt(b, size=VALUE_SIZE)
            yield Change(pointer=at, change="added", b=shown.value, cut=shown.cut)
        elif b is _ABSENT:
            shown = excerpt(a, size=VALUE_SIZE)
            yield Change(pointer=at, change="removed", a=shown.value, cut=shown.cut)
        else:
            yield from self._walk(at, a, b)

    def _changed(self, at: str, a: Any, b: Any) -> Change:
        if isinstance(a, str) and isinstance(b, str) and max(len(a), len(b)) > LONG_TEXT:
            diff, whole = self._texts.diff(a, b)
            if diff:
                return Change(pointer=at, change="changed", diff=diff, cut=not whole)
        before, after = excerpt(a, size=VALUE_SIZE), excerpt(b, size=VALUE_SIZE)
        return Change(
            pointer=at, change="changed", a=before.value, b=after.value, cut=before.cut or after.cut
        )


def same(a: Any, b: Any) -> bool:
    """Whether two values are the same JSON; to Python `true` is 1, to JSON it is not."""
    if a is b:
        return True
    return bool(a == b) and orjson.dumps(a, option=_SORTED) == orjson.dumps(b, option=_SORTED)
