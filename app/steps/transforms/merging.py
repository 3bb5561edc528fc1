"""Putting inputs together: merge, concat, join, zip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.steps.fields import Text
from app.steps.kind import Templated
from app.steps.transforms.function import (
    MAX_SIZE,
    NoParameters,
    Parameters,
    as_text,
    bounded,
    items_of,
    refuse,
    texts_of,
    too_large,
    within_items,
)


class Separator(Parameters):
    """What stands between texts."""

    separator: Templated[Text] = "\n"


def merge(inputs: Sequence[Any], parameters: NoParameters) -> Any:
    """Objects become one object, where later inputs win key by key (one level deep).

    Anything else becomes one list: lists give their elements, other values themselves. Null inputs
    (skipped steps) are left out.
    """
    present = [value for value in inputs if value is not None]
    if present and all(isinstance(value, dict) for value in present):
        merged: dict[str, Any] = {}
        for value in present:
            merged.update(value)
        return merged
    return items_of(present)


def concat(inputs: Sequence[Any], parameters: Separator) -> Any:
    """Lists become one list, in order; texts and numbers become one text with `separator` between them.

    Null inputs are left out; nothing at all is the empty text. Mixing lists and texts is refused.
    """
    present = [value for value in inputs if value is not None]
    if present and all(isinstance(value, list) for value in present):
        return items_of(present)
    for value in present:
        if isinstance(value, list):
            raise refuse("'concat' takes lists or texts, not both; use 'join' to make text of a list first")
    return _joined([as_text(value, function="concat") for value in present], parameters.separator)


def join(inputs: Sequence[Any], parameters: Separator) -> str:
    """The items of all inputs as one text with `separator` between them."""
    return _joined(texts_of(inputs, function="join"), parameters.separator)


def _joined(texts: list[str], separator: str) -> str:
    if sum(map(len, texts)) + len(separator) * len(texts) > MAX_SIZE:
        raise too_large()
    return separator.join(texts)


def zip_fields(inputs: Sequence[Any], parameters: NoParameters) -> list[dict[str, Any]]:
    """Objects out of parallel lists: `{id: [1, 2], kind: "x"}` gives `[{id: 1, kind: x}, {id: 2, kind: x}]`.

    The one input is an object of fields. A list gives each object its own element, any other value is
    repeated, and an object is itself a set of fields (`metadata: {text: […], source: "x"}`). All lists
    must be of one length, and there must be at least one.
    """
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise refuse("'zip' takes 'inputs' as an object of lists, as in {id: […], vector: […]}")
    fields = inputs[0]
    lengths = dict(_lengths(fields, ""))
    if not lengths:
        raise refuse("'zip' needs at least one list among its 'inputs'")
    length = min(lengths.values())
    if length != max(lengths.values()):
        shown = ", ".join(f"{name!r} has {count}" for name, count in lengths.items())
        raise refuse(f"'zip' needs lists of one length: {shown}")
    within_items(length)
    return bounded([_row(fields, number) for number in range(length)])


def _lengths(fields: dict[str, Any], prefix: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for name, value in fields.items():
        if isinstance(value, list):
            found.append((prefix + name, len(value)))
        elif isinstance(value, dict):
            found.extend(_lengths(value, f"{prefix}{name}."))
    return found


def _row(fields: dict[str, Any], number: int) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, list):
            row[name] = value[number]
        else:
            row[name] = _row(value, number) if isinstance(value, dict) else value
    return row
