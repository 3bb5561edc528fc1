"""Choosing items by a criterion: filter."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from app.steps.kind import Templated
from app.steps.transforms.function import MISSING, Parameters, identity, items_of, kind_of, look_up, refuse
from app.steps.transforms.selecting import Path

Operator = Literal[
    "eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in", "contains", "starts_with", "ends_with", "exists"
]
Relation = Callable[[Any, Any], bool]


class Criterion(Parameters):
    """What an item must meet; without `key` the item itself is compared."""

    key: Templated[Path] | None = None
    value: Any = None
    operator: Templated[Operator] | None = None

    @property
    def relation(self) -> Operator:
        """`eq` when there is a value to compare with, else `exists`."""
        return self.operator or ("eq" if "value" in self.model_fields_set else "exists")

    @model_validator(mode="after")
    def _comparable(self) -> Criterion:
        if "value" not in self.model_fields_set and self.operator not in (None, "exists"):
            raise PydanticCustomError("no_value", "Give the 'value' to compare with")
        if self.operator in ("in", "not_in") and isinstance(self.value, (dict, int, float)):
            raise PydanticCustomError("no_list", "'in' and 'not_in' compare with a list")
        return self


def filter_items(inputs: Sequence[Any], parameters: Criterion) -> list[Any]:
    """The items whose value at `key` stands in relation `operator` to `value`.

    `eq ne` compare as JSON; `gt gte lt lte` compare numbers with numbers and texts with texts; `in not_in`
    look into the list `value`; `contains` looks into a text, a list or the keys of an object;
    `starts_with ends_with` compare texts; `exists` wants a value other than null (`value: false`: wants
    none). An item without the key, or of another type, passes `ne`, `not_in` and `exists: false` only.
    """
    name = parameters.relation
    relation, wanted = _RELATIONS[name], _prepared(name, parameters.value)
    missing_passes = name in ("ne", "not_in") or (name == "exists" and wanted is False)

    def passes(item: Any) -> bool:
        found = look_up(item, parameters.key)
        return missing_passes if found is MISSING else relation(found, wanted)

    return [item for item in items_of(inputs) if passes(item)]


def _prepared(name: Operator, wanted: Any) -> Any:
    """What a relation compares with, worked out once for all items."""
    if name in ("eq", "ne"):
        return identity(wanted)
    if name in ("in", "not_in"):
        if not isinstance(wanted, list):
            raise refuse(f"'filter' with {name!r} compares with a list, not with {kind_of(wanted)}")
        return frozenset(identity(member) for member in wanted)
    return wanted


def _contains(found: Any, wanted: Any) -> bool:
    if isinstance(found, str):
        return isinstance(wanted, str) and wanted in found
    if isinstance(found, list):
        expected = identity(wanted)
        return any(identity(member) == expected for member in found)
    return isinstance(found, dict) and isinstance(wanted, str) and wanted in found


def _of_texts(relation: Relation) -> Relation:
    return lambda found, wanted: (
        isinstance(found, str) and isinstance(wanted, str) and relation(found, wanted)
    )


def _ordered(relation: Relation) -> Relation:
    def compare(found: Any, wanted: Any) -> bool:
        numbers = all(
            isinstance(side, (int, float)) and not isinstance(side, bool) for side in (found, wanted)
        )
        texts = isinstance(found, str) and isinstance(wanted, str)
        return (numbers or texts) and relation(found, wanted)

    return compare


_RELATIONS: Final[Mapping[Operator, Relation]] = {
    "eq": lambda found, wanted: bool(identity(found) == wanted),
    "ne": lambda found, wanted: bool(identity(found) != wanted),
    "in": lambda found, wanted: identity(found) in wanted,
    "not_in": lambda found, wanted: identity(found) not in wanted,
    "gt": _ordered(operator.gt),
    "gte": _ordered(operator.ge),
    "lt": _ordered(operator.lt),
    "lte": _ordered(operator.le),
    "contains": _contains,
    "starts_with": _of_texts(str.startswith),
    "ends_with": _of_texts(str.endswith),
    "exists": lambda found, wanted: (found is not None) is (wanted is not False),
}
