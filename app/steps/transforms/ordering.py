"""Lists as a whole: sort, unique, flatten, count."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from app.steps.fields import Int
from app.steps.kind import Templated
from app.steps.transforms.function import (
    MISSING,
    NoParameters,
    Parameters,
    identity,
    items_of,
    look_up,
    within_items,
)
from app.steps.transforms.selecting import Path

RUN: Final = 4_096
"""Items that are sorted in one call: about 2 ms."""

_first = itemgetter(0)


class Order(Parameters):
    """By what, and which way."""

    key: Templated[Path] | None = None
    order: Templated[Literal["asc", "desc"]] = "asc"


def sort(inputs: Sequence[Any], parameters: Order) -> list[Any]:
    """The items by their value at `key` (or by themselves); equal ones keep their order.

    Numbers come before texts, texts before everything else; items without a value come last either way.
    """
    ranked, without = [], []
    for item in items_of(inputs):
        value = look_up(item, parameters.key)
        if value is MISSING or value is None:
            without.append(item)
        else:
            ranked.append((_rank(value), item))
    return [item for _, item in _sorted(ranked, reverse=parameters.order == "desc")] + without


def _sorted(ranked: list[tuple[Any, Any]], *, reverse: bool) -> Iterable[tuple[Any, Any]]:
    """Sorted by rank. Long lists are merged out of short runs: one long sort would hold up other threads."""
    runs = [
        sorted(ranked[start : start + RUN], key=_first, reverse=reverse)
        for start in range(0, len(ranked), RUN)
    ]
    return runs[0] if len(runs) == 1 else heapq.merge(*runs, key=_first, reverse=reverse)


def _rank(value: Any) -> tuple[int, Any]:
    kind, comparable = identity(value)
    return ({"number": 0, "text": 1, "constant": 2, "json": 3}[kind], comparable)


class Key(Parameters):
    """Which part of an item counts."""

    key: Templated[Path] | None = None


def unique(inputs: Sequence[Any], parameters: Key) -> list[Any]:
    """The items without repetitions: of those with one value at `key` the first stays.

    Items that lack the key count as having the value null.
    """
    seen: set[Any] = set()
    kept = []
    for item in items_of(inputs):
        value = look_up(item, parameters.key)
        mark = identity(None if value is MISSING else value)
        if mark not in seen:
            seen.add(mark)
            kept.append(item)
    return kept


class Depth(Parameters):
    """How many levels of lists are dissolved."""

    depth: Templated[Annotated[Int, Field(ge=1, le=32)]] = 1


def flatten(inputs: Sequence[Any], parameters: Depth) -> list[Any]:
    """The items with `depth` levels of lists inside them dissolved."""
    items = items_of(inputs)
    for _ in range(parameters.depth):
        if not any(isinstance(item, list) for item in items):
            break
        within_items(sum(len(item) if isinstance(item, list) else 1 for item in items))
        items = [inner for item in items for inner in (item if isinstance(item, list) else [item])]
    return items


def count(inputs: Sequence[Any], parameters: NoParameters) -> int:
    """How many items the inputs have together; an object or a text counts as one, null as none."""
    return len(items_of(inputs))
