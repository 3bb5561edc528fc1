"""Where a text is best cut: after a paragraph, a sentence, a line, a word; never inside a character.

Everything is found by position in the one text, in time linear in it. White space belongs to what it
follows.
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from app.steps.transforms.clusters import after_cluster, before_cluster
from app.steps.transforms.sentences import sentence_ends

Border = Literal["paragraph", "sentence", "word", "none"]

_BREAK: Final = re.compile(r"(?:\r\n?|[\n\v\f\x85\u2028\u2029])\s*+")
_PAGE_OR_PARAGRAPH: Final = re.compile("[\f\u2029]")
_MARKER: Final = re.compile(r"(?:[-*+\u2022\u2013|>#]|\d{1,3}[.)])[ \t#>|-]")
"""What an entry of a list, a heading, a row of a table or a quotation begins with."""
_HEADING: Final = re.compile(r"#{1,6}[ \t]")
_WORD_ENDS: Final = (" ", "\n", "\t", "\r", "\u2003", "\u3000", "\uff0c", "\u3001", "\uff1b")
"""White space, and the commas and semicolons of scripts that have none."""


@dataclass(frozen=True, slots=True)
class Borders:
    """The borders of one text, best kind first; each kind as ascending positions."""

    text: str
    ranked: Sequence[Sequence[int]]
    words: bool

    def best(self, earliest: int, latest: int) -> int:
        """The last position of the best kind from `earliest` to `latest`; else `latest`, or a little before
        it where that would cut a character and its marks apart.
        """
        for positions in self.ranked:
            found = bisect_right(positions, latest) - 1
            if found >= 0 and positions[found] >= earliest:
                return positions[found]
        if self.words:
            after = 1 + max(self.text.rfind(end, earliest - 1, latest) for end in _WORD_ENDS)
            if after >= earliest:
                return before_cluster(self.text, earliest, after)
        return before_cluster(self.text, earliest, latest)

    def first_word(self, earliest: int, end: int) -> int:
        """Where an overlap begins: at the first whole word, at `end` if there is none (so that nothing is
        shared), and at once in a script without spaces.
        """
        if earliest >= end or earliest == 0:
            return min(earliest, end)
        if self.words and self.text[earliest - 1] not in _WORD_ENDS:
            found = [self.text.find(word_end, earliest, end - 1) for word_end in _WORD_ENDS]
            space = min((place for place in found if place != -1), default=-1)
            if space != -1:
                return after_cluster(self.text, space + 1, end)
            if self.text[end - 1].isspace():
                return end  # nothing but the end of a word would be shared
        return after_cluster(self.text, earliest, end)


def borders(text: str, best: Border) -> Borders:
    """The borders of a text down from the kind `best`; `none` wants cuts by length alone."""
    if best in ("word", "none"):
        return Borders(text, (), words=best == "word")
    paragraphs, lines, listed = _breaks(text)
    sentences = list(heapq.merge(sentence_ends(text), listed))
    ranked = (sentences, lines) if best == "sentence" else (paragraphs, sentences, lines)
    return Borders(text, ranked, words=True)


def _breaks(text: str) -> tuple[list[int], list[int], list[int]]:
    """Ends of paragraphs, ends of lines, and ends of lines before an entry of a list or a heading."""
    paragraphs: list[int] = []
    lines: list[int] = []
    listed: list[int] = []
    line_start = 0
    for found in _BREAK.finditer(text):
        heading = _HEADING.match(text, line_start, found.start())
        line_start = found.end()
        if heading:
            continue  # a heading stays with what it heads
        run = found[0]
        lines.append(line_start)
        if max(run.count("\n"), run.count("\r")) > 1 or _PAGE_OR_PARAGRAPH.search(run):
            paragraphs.append(line_start)
        if _MARKER.match(text, line_start):
            listed.append(line_start)
    return paragraphs, lines, listed
