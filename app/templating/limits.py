"""How large a template may be, and how much one render may cost.

The bounds of a source are fixed: whether a document is accepted must not depend on who reads it. What a
render may cost is the operator's choice (`RenderLimits`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_SOURCE_CHARS: Final = 262_144
"""Of one template, its literal text included."""
MAX_TOKENS: Final = 4_000
"""Of one template, inside its braces; compiling takes up to some 50 µs a token."""
MAX_TREE_TOKENS: Final = 16_000
"""Of all templates of one value together."""
TEMPLATE_TOKENS: Final = 16
"""What a template counts there beside its own tokens."""
MAX_BRACKETS: Final = 20
"""Open brackets; the parser recurses some fifteen frames a bracket."""
MAX_BLOCKS: Final = 12
"""Open `for`, `if`, … blocks; Python's own compiler allows twenty."""
MAX_CHAIN: Final = 20
"""Prefix operators in a row, and `else` of inline conditions in one expression."""
MAX_SYNTAX_DEPTH: Final = 50
"""Of the syntax tree: `a or b or …` is as deep as it has terms."""
MAX_TREE_DEPTH: Final = 100
"""Of the value that holds the templates."""
MAX_INTEGER: Final = 2**63 - 1
"""JSON as this service writes it carries integers of 64 bits."""
MAX_DECIMALS: Final = 15
"""Of `round`."""
MAX_INDENT: Final = 100
"""Spaces that one `indent` adds to a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderLimits:
    """What one render may cost."""

    max_output_chars: int = 4_000_000
    """Of all texts of one render together."""
    inline_work: int = 200_000
    """Units of about 0.1 µs that a render may take on the event loop; beyond, it moves to a worker."""
    timeout_seconds: float = 2.0
    """Wall clock of a render in a worker, which is killed afterwards."""
    memory_bytes: int = 256 * 1024 * 1024
    """Address space of a worker above what it needs when idle."""
