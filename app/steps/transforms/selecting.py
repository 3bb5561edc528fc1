"""Choosing parts of items, and positions: pick, map, slice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from app.steps.fields import Int
from app.steps.kind import Templated
from app.steps.transforms.function import MISSING, Parameters, items_of, kind_of, look_up, refuse

Path = Annotated[str, Field(min_length=1, max_length=500)]
"""A dotted path into an item: `metadata.text`."""


class Keys(Parameters):
    """Which keys stay."""

    keys: Templated[Annotated[list[Path], Field(min_length=1, max_length=200)]]


def pick(inputs: Sequence[Any], parameters: Keys) -> Any:
    """An object with these keys only; of a list, each object in it. Keys it does not have are left out.

    One object in gives one object out, everything else a list.
    """
    picked = [_picked(item, parameters.keys) for item in items_of(inputs)]
    return picked[0] if len(inputs) == 1 and isinstance(inputs[0], dict) else picked


def _picked(item: Any, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise refuse(f"'pick' works on objects and was given {kind_of(item)}")
    return {key: item[key] for key in keys if key in item}


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


class Range(Parameters):
    """Positions as Python counts them: from 0, negative ones from the end, `end` excluded."""

    start: Templated[Int] | None = None
    end: Templated[Int] | None = None


def slice_items(inputs: Sequence[Any], parameters: Range) -> list[Any]:
    """The items from `start` up to, not including, `end`."""
    return items_of(inputs)[parameters.start : parameters.end]
