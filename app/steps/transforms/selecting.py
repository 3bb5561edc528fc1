"""Choosing parts of items, positions and values: pick, omit, rename, map, get, default, slice, limit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.steps.fields import FilledText, Int
from app.steps.kind import Templated
from app.steps.transforms.function import (
    MISSING,
    Parameters,
    alone,
    items_of,
    kind_of,
    look_up,
    refuse,
)

Path = Annotated[str, Field(min_length=1, max_length=500)]
"""A dotted path into an item: `metadata.text`."""


class Keys(Parameters):
    """Which keys are meant."""

    keys: Templated[Annotated[list[Path], Field(min_length=1, max_length=200)]]


def pick(inputs: Sequence[Any], parameters: Keys) -> Any:
    """An object with these keys only; of a list, each object in it. Keys it does not have are left out.

    One object in gives one object out, everything else a list.
    """
    picked = [{key: item[key] for key in parameters.keys if key in item} for item in _objects(inputs, "pick")]
    return _shaped_as(inputs, picked)


def omit(inputs: Sequence[Any], parameters: Keys) -> Any:
    """An object without these keys; of a list, each object in it. One object in gives one object out."""
    unwanted = frozenset(parameters.keys)
    kept = [
        {key: value for key, value in item.items() if key not in unwanted}
        for item in _objects(inputs, "omit")
    ]
    return _shaped_as(inputs, kept)


class NewKeys(Parameters):
    """`{old: new}`."""

    keys: Templated[Annotated[dict[Path, FilledText], Field(min_length=1, max_length=200)]]


def rename(inputs: Sequence[Any], parameters: NewKeys) -> Any:
    """An object with other names for these keys, in place; of a list, each object in it.

    A key that an object does not have is passed over. A new name that is the object's already replaces
    what stood there. One object in gives one object out.
    """
    return _shaped_as(inputs, [_renamed(item, parameters.keys) for item in _objects(inputs, "rename")])


def _renamed(item: dict[str, Any], keys: dict[str, str]) -> dict[str, Any]:
    taken = {new for old, new in keys.items() if old in item}
    return {keys.get(key, key): value for key, value in item.items() if key in keys or key not in taken}


def _objects(inputs: Sequence[Any], function: str) -> list[dict[str, Any]]:
    items = items_of(inputs)
    for item in items:
        if not isinstance(item, dict):
            raise refuse(f"{function!r} works on objects and was given {kind_of(item)}")
    return items


def _shaped_as(inputs: Sequence[Any], results: list[dict[str, Any]]) -> Any:
    return results[0] if len(inputs) == 1 and isinstance(inputs[0], dict) else results


class Mapped(Parameters):
    """Where each item's new value comes from."""

    key: Templated[Path] | None = None
    fields: Templated[Annotated[dict[str, Path], Field(min_length=1, max_length=200)]] | None = None
    default: Any = None

    @model_validator(mode="after")
    def _one_source(self) -> Mapped:
        if (self.key is None) == (self.fields is None):
            raise PydanticCustomError("one_source", "Give exactly one of 'key' and 'fields'")
        return self


def map_items(inputs: Sequence[Any], parameters: Mapped) -> list[Any]:
    """With `key`, each item's value at that path; with `fields`, an object of new names and the values at
    their paths. What an item does not have becomes `default` (null), so that positions are kept.
    """

    def at(item: Any, path: str) -> Any:
        found = look_up(item, path)
        return parameters.default if found is MISSING else found

    items = items_of(inputs)
    if parameters.key is not None:
        return [at(item, parameters.key) for item in items]
    fields = parameters.fields or {}
    return [{name: at(item, path) for name, path in fields.items()} for item in items]


class Place(Parameters):
    """Where in a value."""

    path: Templated[Path]
    default: Any = None


def get(inputs: Sequence[Any], parameters: Place) -> Any:
    """The value at a path of the one input (`hits.0.metadata.text`); `default` where there is none."""
    found = look_up(alone(inputs), parameters.path)
    return parameters.default if found is MISSING else found


class Instead(Parameters):
    """What stands in for nothing."""

    value: Any = None


def default(inputs: Sequence[Any], parameters: Instead) -> Any:
    """The first input that is not null (an output of a skipped step is); `value` when all are."""
    return next((value for value in inputs if value is not None), parameters.value)


class Range(Parameters):
    """Positions as Python counts them: from 0, negative ones from the end, `end` excluded."""

    start: Templated[Int] | None = None
    end: Templated[Int] | None = None


def slice_items(inputs: Sequence[Any], parameters: Range) -> list[Any]:
    """The items from `start` up to, not including, `end`."""
    return items_of(inputs)[parameters.start : parameters.end]


class Limit(Parameters):
    """How many."""

    count: Templated[Annotated[Int, Field(ge=0)]]


def limit(inputs: Sequence[Any], parameters: Limit) -> list[Any]:
    """The first `count` items, or as many as there are."""
    return items_of(inputs)[: parameters.count]
