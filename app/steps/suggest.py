"""Hints for names that do not exist."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the nearest known name, or all of them when none is near."""
    names = sorted(known)
    near = get_close_matches(name[:100], names, n=1)
    return f"did you mean {near[0]!r}?" if near else "use one of " + ", ".join(map(repr, names))
