"""What a reader takes for one character: a letter with its marks, a joined emoji, a flag, CR LF.

An approximation of the extended grapheme clusters of Unicode Standard Annex 29, good enough not to cut
them apart, and bounded in how far it looks.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_STEPS: Final = 64
_JOINER: Final = "\u200d"
_FLAG_HALVES: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))


def before_cluster(text: str, earliest: int, latest: int) -> int:
    """The last position from `earliest` to `latest` inside no cluster; `latest` if none is near."""
    for cut in range(latest, max(earliest, latest - _STEPS) - 1, -1):
        if not inside_cluster(text, cut):
            return cut
    return latest


def after_cluster(text: str, earliest: int, latest: int) -> int:
    """The first position from `earliest` to `latest` inside no cluster; `earliest` if none is near."""
    for cut in range(earliest, min(latest, earliest + _STEPS) + 1):
        if not inside_cluster(text, cut):
            return cut
    return earliest


def inside_cluster(text: str, cut: int) -> bool:
    """Whether a cluster that begins before `cut` goes on there."""
    if not 0 < cut < len(text):
        return False
    before, after = text[cut - 1], text[cut]
    if after.isascii():
        return before == "\r" and after == "\n"
    if _JOINER in (before, after) or unicodedata.category(after).startswith("M"):
        return True
    if "\u1160" <= after <= "\u11ff" or "\U0001f3fb" <= after <= "\U0001f3ff":
        return True  # vowels and finals of decomposed Hangul; skin tones
    if before not in _FLAG_HALVES or after not in _FLAG_HALVES:
        return False
    halves = text[max(cut - _STEPS, 0) : cut]
    return (len(halves) - len(halves.rstrip(_FLAG_HALVES))) % 2 == 1
