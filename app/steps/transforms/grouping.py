"""Lists into smaller lists, and objects into lists: group_by, batch, entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from app.steps.fields import Int
from app.steps.kind import Templated
from app.steps.transforms.function import (
    MISSING,
    NoParameters,
    Parameters,
    alone,
    identity,
    items_of,
    kind_of,
    look_up,
    refuse,
)
from app.steps.transforms.selecting import Path


class GroupKey(Parameters):
    """What items of one group have in common."""

    key: Templated[Path]


def group_by(inputs: Sequence[Any], parameters: GroupKey) -> list[dict[str, Any]]:
    """The items by their value at `key`: `[{key, items, count}]`, groups in the order they first appear.

    Items that lack the key are the group of null.
    """
    return [
        {"key": value, "items": items, "count": len(items)}
        for value, items in groups(items_of(inputs), parameters.key)
    ]


def groups(items: Sequence[Any], key: str) -> list[tuple[Any, list[Any]]]:
    """Values at a path with the items that have them, in order of appearance; equal as JSON is equal."""
    found: dict[Any, tuple[Any, list[Any]]] = {}
    for item in items:
        at = look_up(item, key)
        value = None if at is MISSING else at
        found.setdefault(identity(value), (value, []))[1].append(item)
    return list(found.values())


class BatchSize(Parameters):
    """How many items a batch has."""

    size: Templated[Annotated[Int, Field(ge=1, le=100_000)]]


def batch(inputs: Sequence[Any], parameters: BatchSize) -> list[list[Any]]:
    """The items in lists of `size`, in order; the last one may be shorter."""
    items, size = items_of(inputs), parameters.size
    return [items[start : start + size] for start in range(0, len(items), size)]


def entries(inputs: Sequence[Any], parameters: NoParameters) -> list[dict[str, Any]]:
    """What an object holds as a list: `[{key, value}]`, in its order."""
    source = alone(inputs)
    if not isinstance(source, dict):
        raise refuse(f"'entries' works on one object and was given {kind_of(source)}")
    return [{"key": key, "value": value} for key, value in source.items()]
