"""How large a document may be: as a text, before anything is built from it, and as a workflow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MOST_STEPS: Final = 5_000
"""Of all blocks together."""
DEEPEST_BLOCKS: Final = 16
"""Blocks within blocks."""
MOST_TEMPLATE_BYTES: Final = 128 * 1024
"""Between the braces of all templates of a document. Compiling them takes some 20 µs a byte at worst,
in which nothing else runs."""

_BRACES: Final = re.compile(rb"\{\{|\{%|\}\}|%\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadLimits:
    """`max_bytes` counts the UTF-8 text, `max_depth` nested lists and mappings, `max_values` every value."""

    max_bytes: int = 1024 * 1024
    max_depth: int = 64
    max_values: int = 100_000


def template_bytes(document: bytes) -> int:
    """Bytes between template braces in a document's JSON."""
    total, opened = 0, -1
    for match in _BRACES.finditer(document):
        if match[0] in (b"{{", b"{%"):
            opened = match.end() if opened < 0 else opened
        elif opened >= 0:
            total += match.start() - opened
            opened = -1
    return total
