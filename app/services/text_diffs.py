"""Two texts as a unified diff, at a bounded cost.

`difflib` is quadratic at worst, so what it is given is cut: lines that both ends share are taken off first,
then only so many lines are compared, and an account bounds all comparisons of one answer together.
"""

from __future__ import annotations

import re
from difflib import unified_diff
from typing import Final

MOST_LINES: Final = 120
"""Lines of each text that are compared."""
LONG_LINE: Final = 120
LONGEST_LINE: Final = 300
CONTEXT: Final = 2
"""Lines around a change that are shown."""
MOST_CELLS: Final = 300_000
"""Pairs of lines that one account allows to be compared."""
_SENTENCE_END: Final = re.compile(r"(?<=[.!?;:]) +")


class TextDiffer:
    """The account of one answer."""

    def __init__(self) -> None:
        self._cells = MOST_CELLS

    def diff(self, a: str, b: str) -> tuple[str | None, bool]:
        """The unified diff without its head, and whether it tells everything; None if the account is empty.

        Long lines are broken at the ends of sentences, and what is longer still anywhere.
        """
        before, after = _lines(a), _lines(b)
        first = _common(before, after)
        last = _common(before[first:][::-1], after[first:][::-1])
        start = max(0, first - CONTEXT)
        left = before[start : len(before) - last + CONTEXT if last else len(before)]
        right = after[start : len(after) - last + CONTEXT if last else len(after)]
        whole = len(left) <= MOST_LINES and len(right) <= MOST_LINES
        left, right = left[:MOST_LINES], right[:MOST_LINES]
        self._cells -= (len(left) + 1) * (len(right) + 1)
        if self._cells < 0:
            return None, False
        lines = list(unified_diff(left, right, n=CONTEXT, lineterm=""))[2:]
        return "\n".join(_placed(line, start) for line in lines), whole and bool(lines)


def _lines(text: str) -> list[str]:
    found: list[str] = []
    for line in text.splitlines():
        for part in _SENTENCE_END.split(line) if len(line) > LONG_LINE else (line,):
            found.extend(part[at : at + LONGEST_LINE] for at in range(0, len(part) or 1, LONGEST_LINE))
    return found


def _common(a: list[str], b: list[str]) -> int:
    """How many lines both begin with."""
    count = 0
    for one, other in zip(a, b, strict=False):
        if one != other:
            break
        count += 1
    return count


def _placed(line: str, start: int) -> str:
    """A hunk's head counts from the beginning of the whole text."""
    if not line.startswith("@@ ") or not start:
        return line
    _, a, b, _ = line.split(" ")
    return f"@@ {_moved(a, start)} {_moved(b, start)} @@"


def _moved(span: str, start: int) -> str:
    number, comma, length = span[1:].partition(",")
    return f"{span[0]}{int(number) + start}{comma}{length}"
