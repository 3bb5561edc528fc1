"""Metadata filters in Weaviate's words: `where` filters, as JSON. Pure, no I/O.

`Not` is Weaviate's own operator (from 1.33 on), so that negation is exact. A property that no record has
brought yet is not declared, and cannot be asked about: what is said of it is decided here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, assert_never

from app.ports.vector_checks import invalid
from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not, fields_of
from app.providers.weaviate.schema import ANY_RECORD, comparable, property_name

Where = dict[str, Any]
Decided = Where | bool
"""A filter, or whether everything passes."""

EVERYTHING: Final[Where] = {"path": ["present"], "operator": "Equal", "valueText": ANY_RECORD}
_KINDS: Final[Mapping[str, str]] = {"number": "n", "string": "t", "boolean": "b"}
_VALUES: Final[Mapping[str, str]] = {"n": "valueNumber", "t": "valueText", "b": "valueBoolean"}
_ORDER: Final[Mapping[str, str]] = {
    "$gt": "GreaterThan",
    "$gte": "GreaterThanEqual",
    "$lt": "LessThan",
    "$lte": "LessThanEqual",
}


def properties_asked(tree: FilterTree) -> frozenset[str]:
    """Every property that the filter may ask about, declared or not."""
    return frozenset(property_name(kind, field) for field in fields_of(tree) for kind in _VALUES)


def where_filter(tree: FilterTree, properties: AbstractSet[str]) -> Decided:
    """The filter for a collection with these properties. Raises `PermanentError` for numbers too large."""
    match tree:
        case Condition():
            return _condition(tree, properties)
        case All():
            return _joined("And", [where_filter(part, properties) for part in tree.parts], decides=False)
        case AnyOf():
            return _joined("Or", [where_filter(part, properties) for part in tree.parts], decides=True)
        case Not():
            return _negated(where_filter(tree.part, properties))
        case _:
            assert_never(tree)


def where_ids(ids: Sequence[str]) -> Where:
    """The filter for objects by their UUIDs."""
    return {"path": ["id"], "operator": "ContainsAny", "valueTextArray": list(ids)}


def _condition(condition: Condition, properties: AbstractSet[str]) -> Decided:
    field = condition.field
    if condition.operator == "$exists":
        there: Where = {"path": ["present"], "operator": "Equal", "valueText": comparable(field)}
        return there if condition.operand else _negated(there)
    if condition.tests_membership:
        one = _one_of(condition, properties)
        return _negated(one) if condition.negated else one
    ((kind, value),) = condition.operands
    return _test(_KINDS[kind], field, _ORDER[condition.operator], value, properties)


def _one_of(condition: Condition, properties: AbstractSet[str]) -> Decided:
    by_kind: dict[str, list[Any]] = defaultdict(list)
    for kind, value in sorted(condition.operands, key=lambda key: (key[0], key[1])):
        by_kind[_KINDS[kind]].append(value)
    tests: list[Decided] = []
    for kind, values in by_kind.items():
        if kind == "b" or len(values) == 1:
            tests.extend(_test(kind, condition.field, "Equal", value, properties) for value in values)
        else:
            tests.append(_test(kind, condition.field, "ContainsAny", values, properties))
    return _joined("Or", tests, decides=True)


def _test(kind: str, field: str, operator: str, value: Any, properties: AbstractSet[str]) -> Decided:
    name = property_name(kind, field)
    if name not in properties:
        return False
    if isinstance(value, list):
        listed = [_operand(kind, item) for item in value]
        return {"path": [name], "operator": operator, f"{_VALUES[kind]}Array": listed}
    return {"path": [name], "operator": operator, _VALUES[kind]: _operand(kind, value)}


def _operand(kind: str, value: Any) -> Any:
    if kind == "t":
        return comparable(value)
    if kind == "b":
        return value
    try:
        return float(value)
    except OverflowError:
        raise invalid(f"the metadata filter holds the number {value}, which Weaviate cannot hold") from None


def _joined(join: str, parts: Sequence[Decided], *, decides: bool) -> Decided:
    """Parts joined; one that equals `decides` decides for all, the opposite says nothing."""
    told = [part for part in parts if not isinstance(part, bool)]
    if any(part is decides for part in parts):
        return decides
    if not told:
        return not decides
    return told[0] if len(told) == 1 else {"operator": join, "operands": told}


def _negated(part: Decided) -> Decided:
    return not part if isinstance(part, bool) else {"operator": "Not", "operands": [part]}
