"""One vector database as the suite of `test_vector_store` sees it: how it is opened, and what it lacks.

A database joins by a module here, with an `Entry`, and a line in `ENTRIES` of the suite. What it lacks of
the port it declares, and the suite then asks for a clear refusal, or for what is left of the promise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not
from app.ports.vectors import VectorStore

OpenStore = Callable[[Path, str], AbstractAsyncContextManager[VectorStore]]
"""An empty store, closed at the end; cosine, where the metric can be chosen. It is given a folder of its
own and the address of what the entry starts."""

Missing = Literal["$exists", "$not", "negated order", "order of strings", "hybrid", "vectors of zeros"]
"""What a database may refuse: parts of the filter language, searching by words, storing only zeros."""

Weaker = Literal["delete counts", "ties", "vector lengths"]
"""Promises that a database may keep in part.

- `delete counts`: what a delete returns is not exact.
- `ties`: which of the equally near hits come within `top_k` is not decided by id.
- `vector lengths`: vectors come back scaled to length one.
"""


def _nothing_beside() -> AbstractContextManager[str]:
    return nullcontext("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One database. `says` is what the message of every refusal holds: the vendor's name."""

    open: OpenStore
    start: Callable[[], AbstractContextManager[str]] = _nothing_beside
    """What runs beside it, once a session: its address. Calls `require_or_skip` where it is not there."""
    missing: frozenset[Missing] = frozenset()
    weaker: frozenset[Weaker] = frozenset()
    says: str = ""

    @property
    def has_server(self) -> bool:
        """Whether a real server is needed."""
        return self.start is not _nothing_beside

    def refuses(self, tree: FilterTree) -> bool:
        """Whether the filter needs what the database lacks."""
        return any(needs(tree) for part, needs in NEEDS.items() if part in self.missing)


def _has_exists(tree: FilterTree) -> bool:
    match tree:
        case Condition():
            return tree.operator == "$exists"
        case All() | AnyOf():
            return any(map(_has_exists, tree.parts))
        case Not():
            return _has_exists(tree.part)


def _has_not(tree: FilterTree) -> bool:
    match tree:
        case Condition():
            return False
        case All() | AnyOf():
            return any(map(_has_not, tree.parts))
        case Not():
            return True


def _has_order(tree: FilterTree, *, negated: bool = False) -> bool:
    """Whether a comparison stands under an odd number of `$not`."""
    match tree:
        case Condition():
            return negated and not tree.tests_membership and tree.operator != "$exists"
        case All() | AnyOf():
            return any(_has_order(part, negated=negated) for part in tree.parts)
        case Not():
            return _has_order(tree.part, negated=not negated)


def _orders_strings(tree: FilterTree) -> bool:
    match tree:
        case Condition():
            ordered = not tree.tests_membership and tree.operator != "$exists"
            return ordered and isinstance(tree.operand, str)
        case All() | AnyOf():
            return any(map(_orders_strings, tree.parts))
        case Not():
            return _orders_strings(tree.part)


NEEDS: Final[Mapping[Missing, Callable[[FilterTree], bool]]] = {
    "$exists": _has_exists,
    "$not": _has_not,
    "negated order": _has_order,
    "order of strings": _orders_strings,
}
"""Which filters need a part of the language."""
