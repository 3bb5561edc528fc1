"""What a metadata filter means: parsed and checked once, then asked value by value. Pure, no I/O.

    filter     = {} | { entry, … }                      every entry must hold
    entry      = field: scalar                          short for {"$eq": scalar}
               | field: { operator: operand, … }        every operator must hold
               | "$and": [filter, …] | "$or": [filter, …] | "$not": filter

How a value passes:

- Kinds do not mix: booleans, numbers (1 equals 1.0) and strings are compared with their own kind only,
  anything else is unequal and in no order. Strings are ordered by code point, so ISO dates are by time.
- A list passes a test if one of its elements does.
- `$ne` and `$nin` are exactly the opposite of `$eq` and `$in`.
- A field that is absent, null or an empty list has no value: it passes `$ne`, `$nin` and
  `$exists: false`, and nothing else.

A malformed filter is a `MalformedFilter`, of class `invalid_request`, that says where and what to write.
What belongs elsewhere: how a store evaluates a tree over many records (`vector_columns`).
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from app.ports.errors import PermanentError

MAX_DEPTH: Final = 16
MAX_CONDITIONS: Final = 500
MAX_OPERANDS: Final = 10_000

Key: TypeAlias = tuple[str, Any]
"""A scalar with its kind, so that True, 1 and "1" are three keys while 1 and 1.0 are one."""

_ORDER: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "$gt": operator.gt,
    "$gte": operator.ge,
    "$lt": operator.lt,
    "$lte": operator.le,
}
_MEMBERSHIP: Final = frozenset({"$eq", "$ne", "$in", "$nin"})
_NEGATED: Final = frozenset({"$ne", "$nin"})
OPERATORS: Final = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists")
_JOINS: Final = ("$and", "$or", "$not")


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field. `operands` holds one key, or all of `$in` and `$nin`."""

    field: str
    operator: str
    operands: frozenset[Key]

    @property
    def tests_membership(self) -> bool:
        """Whether the test is being, or not being, one of the operands."""
        return self.operator in _MEMBERSHIP

    @property
    def negated(self) -> bool:
        """Whether it passes where its opposite (`$eq`, `$in`) fails."""
        return self.operator in _NEGATED

    @property
    def operand(self) -> Any:
        """The value to compare with; of operators that take one."""
        ((_, value),) = self.operands
        return value

    def passes(self, value: Any) -> bool:
        """Whether a field's value (None when it has none) passes."""
        elements = value if isinstance(value, list | tuple) else (value,)
        keys = [key_of(element) for element in elements if element is not None]
        if self.operator == "$exists":
            return ("boolean", bool(keys)) in self.operands
        if self.tests_membership:
            return any(key in self.operands for key in keys) is not self.negated
        ((kind, operand),) = self.operands
        compare = _ORDER[self.operator]
        return any(kind == key[0] and compare(key[1], operand) for key in keys)


@dataclass(frozen=True, slots=True)
class All:
    """Every part must hold; without parts it holds always."""

    parts: tuple[FilterTree, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One part must hold."""

    parts: tuple[FilterTree, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part must not hold."""

    part: FilterTree


FilterTree: TypeAlias = Condition | All | AnyOf | Not


def key_of(scalar: Any) -> Key:
    """A scalar with its kind; what is no scalar gets a kind that equals nothing."""
    if isinstance(scalar, bool):
        return ("boolean", scalar)
    if isinstance(scalar, int | float):
        return ("number", scalar)
    if isinstance(scalar, str):
        return ("string", scalar)
    return ("other", None)


def matches(tree: FilterTree, metadata: Mapping[str, Any]) -> bool:
    """Whether a record's metadata passes."""
    match tree:
        case Condition():
            return tree.passes(metadata.get(tree.field))
        case All():
            return all(matches(part, metadata) for part in tree.parts)
        case AnyOf():
            return any(matches(part, metadata) for part in tree.parts)
        case Not():
            return not matches(tree.part, metadata)


def fields_of(tree: FilterTree) -> frozenset[str]:
    """Every field the tree looks at."""
    match tree:
        case Condition():
            return frozenset({tree.field})
        case All() | AnyOf():
            return frozenset().union(*(fields_of(part) for part in tree.parts))
        case Not():
            return fields_of(tree.part)


class MalformedFilter(PermanentError):
    """A filter that means nothing; `advice` says what to write where it is wrong."""

    def __init__(self, where: str, advice: str) -> None:
        super().__init__("invalid_request", f"the metadata filter is malformed at {where!r}: {advice}")
        self.advice = advice


def check_operand(operator: str, operand: Any) -> None:
    """Raise `MalformedFilter` for what one of the operators cannot compare with."""
    _operands(operator, operand, where=operator)


def parse_filter(filter: Mapping[str, Any]) -> FilterTree:
    """Check a filter and build its tree. Raises `MalformedFilter`."""
    tree = _parse(filter, where="filter", depth=1)
    if sum(1 for _ in _conditions(tree)) > MAX_CONDITIONS:
        raise MalformedFilter(
            "filter", f"it has more than {MAX_CONDITIONS} conditions; use '$in' for lists of values"
        )
    return tree


def _parse(filter: Any, *, where: str, depth: int) -> FilterTree:
    if not isinstance(filter, Mapping):
        raise MalformedFilter(where, f"write a mapping of fields or operators, not {_name(filter)}")
    if depth > MAX_DEPTH:
        raise MalformedFilter(where, f"it is nested deeper than {MAX_DEPTH} levels; flatten it")
    parts = [
        part for name, value in filter.items() for part in _parse_entry(name, value, where=where, depth=depth)
    ]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _parse_entry(name: Any, value: Any, *, where: str, depth: int) -> list[FilterTree]:
    if not isinstance(name, str):
        raise MalformedFilter(where, f"field names are strings, not {_name(name)}")
    if name == "$not":
        return [Not(_parse_branch(value, where=f"{where}.$not", depth=depth))]
    if name in {"$and", "$or"}:
        if not isinstance(value, list | tuple) or not value:
            raise MalformedFilter(f"{where}.{name}", "write a list of one or more filters")
        branches = tuple(
            _parse_branch(branch, where=f"{where}.{name}[{i}]", depth=depth) for i, branch in enumerate(value)
        )
        return [All(branches) if name == "$and" else AnyOf(branches)]
    if name.startswith("$"):
        raise _unknown(name, where=where, known=_JOINS)
    return list(_parse_field(name, value, where=f"{where}.{name}"))


def _parse_branch(value: Any, *, where: str, depth: int) -> FilterTree:
    if isinstance(value, Mapping) and not value:
        raise MalformedFilter(where, "an empty filter has nothing to join; leave it out")
    return _parse(value, where=where, depth=depth + 1)


def _parse_field(field: str, value: Any, *, where: str) -> Iterator[Condition]:
    if not isinstance(value, Mapping):
        yield Condition(field, "$eq", frozenset({_operand(value, where=where)}))
        return
    if not value:
        raise MalformedFilter(where, 'write a value or an operator, for example {"$exists": true}')
    for name, operand in value.items():
        if name not in OPERATORS:
            raise _unknown(name, where=where, known=OPERATORS)
        yield Condition(field, name, _operands(name, operand, where=f"{where}.{name}"))


def _operands(name: str, operand: Any, *, where: str) -> frozenset[Key]:
    if name in {"$in", "$nin"}:
        if not isinstance(operand, list | tuple):
            raise MalformedFilter(where, f"write a list of values, not {_name(operand)}")
        if len(operand) > MAX_OPERANDS:
            raise MalformedFilter(where, f"at most {MAX_OPERANDS} values fit in one list, not {len(operand)}")
        return frozenset(_operand(item, where=f"{where}[{i}]") for i, item in enumerate(operand))
    if name == "$exists":
        if not isinstance(operand, bool):
            raise MalformedFilter(where, f"write true or false, not {_name(operand)}")
        return frozenset({("boolean", operand)})
    key = _operand(operand, where=where)
    if name in _ORDER and key[0] == "boolean":
        raise MalformedFilter(where, "booleans have no order; use '$eq'")
    return frozenset({key})


def _operand(value: Any, *, where: str) -> Key:
    if value is None:
        raise MalformedFilter(
            where, 'null cannot be compared; use {"$exists": false} for fields without a value'
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise MalformedFilter(where, "numbers must be finite")
    key = key_of(value)
    if key[0] == "other":
        raise MalformedFilter(
            where, f"write a string, number or boolean, not {_name(value)}; lists go with '$in'"
        )
    return key


def _conditions(tree: FilterTree) -> Iterator[Condition]:
    match tree:
        case Condition():
            yield tree
        case All() | AnyOf():
            for part in tree.parts:
                yield from _conditions(part)
        case Not():
            yield from _conditions(tree.part)


def _unknown(name: Any, *, where: str, known: tuple[str, ...]) -> MalformedFilter:
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return MalformedFilter(where, f"unknown operator {name!r}; {hint}known here: {' '.join(known)}")


def _name(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", dict: "a mapping"}
    if value is None:
        return "null"
    return names.get(type(value), "a list" if isinstance(value, list | tuple) else type(value).__name__)
