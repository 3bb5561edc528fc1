"""Where sentences end, in many scripts.

A stop of a script with spaces ends a sentence if white space follows; one of a script without always does.
A full stop after an abbreviation, an initial or a small number ends none, and nothing does that a small
letter follows. Missing an end costs a splitter little: the text is cut at another one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

_WIDE: Final = "\u3002\uff01\uff1f\uff61"
"""Stops of Chinese and Japanese."""
_NARROW: Final = ".!?\u2026\u061f\u06d4\u0589\u0964\u0965\u1362\u104b\u17d4\u17d5"
"""Stops of Latin, Greek and Cyrillic, the ellipsis, and those of Arabic, Urdu, Armenian, Devanagari (two),
Ethiopic, Burmese and Khmer (two)."""
_CLOSERS: Final = "\"'\u2019\u201d\u00bb)}\u300d\u300f\uff09\u3011\u3009\u300b*_"
"""Quotation marks, brackets and emphasis that a stop may stand within."""
_OPENERS: Final = "([{\"'\u2018\u201c\u201e\u00ab*_"

# Every alternative takes what it takes for good and matches wherever it begins: no run is read twice.
_STOP: Final = re.compile(
    rf"(?:(?P<wide>[{_WIDE}]++)|(?P<narrow>[{_NARROW}]++))[\]{_CLOSERS}]*+(?P<space>\s*+)"
)

_BEFORE_NAMES: Final = frozenset(
    {"mr", "mrs", "ms", "mx", "dr", "dra", "prof", "rev", "hon", "sr", "sra", "srta", "jr", "st", "mt"}
    | {"gen", "col", "capt", "lt", "sgt", "gov", "sen", "rep", "pres", "supt", "insp", "messrs", "mme"}
    | {"mlle", "mm", "ing", "dipl", "vs", "cf", "approx", "bzw", "evtl", "ggf", "inkl", "exkl", "vgl"}
    | {"bzgl", "sog"}
)
"""Abbreviations that go on with a capital letter."""
_BEFORE_NUMBERS: Final = frozenset(
    {"no", "nos", "nr", "fig", "figs", "eq", "eqs", "vol", "vols", "pp", "ch", "chap", "sec", "art", "op"}
    | {"ed", "al", "ca", "tel", "str", "abs", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept"}
    | {"oct", "nov", "dec"}
)
"""Abbreviations that go on with a number, and are words otherwise."""
_LONGEST_WORD: Final = 24
_YEAR_DIGITS: Final = 3
"""Shorter numbers are days, or the numbers of a list's entries."""


def sentence_ends(text: str) -> Iterator[int]:
    """The positions after sentences, white space behind them included, ascending; in linear time."""
    for found in _STOP.finditer(text):
        if found["wide"] or (found["space"] and _ends_sentence(text, found)):
            yield found.end()


def _ends_sentence(text: str, stop: re.Match[str]) -> bool:
    following = text[stop.end() : stop.end() + 1]
    if following.islower():
        return False
    if stop["narrow"] != ".":
        return True
    word = _word_before(text, stop.start())
    if word.isdigit():
        return len(word) >= _YEAR_DIGITS
    if word in _BEFORE_NAMES or (word in _BEFORE_NUMBERS and following.isdigit()):
        return False
    return not word or not all(len(part) == 1 and part.isalpha() for part in word.split("."))


def _word_before(text: str, end: int) -> str:
    before = text[max(end - _LONGEST_WORD, 0) : end]
    words = before.split()
    return words[-1].lstrip(_OPENERS).casefold() if words and not before[-1].isspace() else ""
