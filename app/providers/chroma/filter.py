"""Metadata filters in Chroma's words: a tree in, a `where` clause out. Pure, no I/O.

How Chroma's language (tried on version 1.5) differs from `app.ports.vector_filters`, and what is done
about it:

- `$eq`, `$in` and their opposites look at single values, `$contains` and its opposite at lists: texts are
  asked for both ways. Fields that are absent pass `$ne`, `$nin` and `$not_contains`, as in our language.
- One `$in` takes values of one type, and at least one.
- Orders are for numbers only: another operand is refused.
- There is no `$not` and no `$exists`. Negations are pushed down to the conditions; what is left of them,
  the opposite of an order (it lets through what has no value), is refused, and so is `$exists`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, assert_never

from app.ports.errors import PermanentError
from app.ports.vector_checks import invalid
from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not, fields_of
from app.providers.filter_rewrites import push_negations

Json: TypeAlias = dict[str, Any]

_WIDEST: Final = 100
"""Clauses of one join; a server takes fewer than 1,000, those around them included."""


def translate(tree: FilterTree) -> Json:
    """A `where` clause. Raises `PermanentError` of class `invalid_request` for what Chroma lacks."""
    return _translated(push_negations(tree))


def is_field_name(name: str) -> bool:
    """Whether metadata can have it. Names of Chroma's own, once stored, break its server."""
    return bool(name) and not name.startswith(("#", "$", "chroma:"))


def all_of(clauses: Sequence[Json]) -> Json:
    """Every one of one or more clauses."""
    return _joined("$and", clauses)


def _translated(tree: FilterTree) -> Json:
    match tree:
        case Condition():
            return _condition(tree)
        case All():
            return all_of([_translated(part) for part in tree.parts])
        case AnyOf():
            return _any_of([_translated(part) for part in tree.parts])
        case Not():
            raise _negated(tree.part)
        case _:
            assert_never(tree)


def _condition(condition: Condition) -> Json:
    field, operator = condition.field, condition.operator
    if not is_field_name(field):
        raise invalid(
            f"Chroma cannot filter by {field!r}: names are not empty and begin neither with '#' nor 'chroma:'"
        )
    if operator == "$exists":
        raise invalid(
            f"Chroma has no '$exists', which the filter asks of {field!r}; store a field that says it, such "
            "as a boolean, and compare that"
        )
    if condition.tests_membership:
        return _membership(condition)
    if isinstance(condition.operand, str):
        raise invalid(
            f"Chroma orders numbers only, and {operator!r} of {field!r} compares with "
            f"{condition.operand!r}; store dates as numbers, such as seconds, and compare those"
        )
    return {field: {operator: condition.operand}}


def _membership(condition: Condition) -> Json:
    field = condition.field
    equal, one_of, contains = (
        ("$ne", "$nin", "$not_contains") if condition.negated else ("$eq", "$in", "$contains")
    )
    by_type: dict[type, list[Any]] = {}
    for _, value in sorted(condition.operands, key=repr):
        by_type.setdefault(type(value), []).append(value)
    clauses: list[Json] = [
        {field: {one_of: values} if len(values) > 1 else {equal: values[0]}} for values in by_type.values()
    ]
    clauses += [{field: {contains: text}} for text in by_type.get(str, ())]
    if not clauses:
        return _whether(field, passes=condition.negated)
    return all_of(clauses) if condition.negated else _any_of(clauses)


def _whether(field: str, *, passes: bool) -> Json:
    """What everything passes, or nothing: there is no constant."""
    either: list[Json] = [{field: {"$eq": 0}}, {field: {"$ne": 0}}]
    return _any_of(either) if passes else all_of(either)


def _any_of(clauses: Sequence[Json]) -> Json:
    return _joined("$or", clauses)


def _joined(operator: str, clauses: Sequence[Json]) -> Json:
    """In halves where there are many: the server's own database nests one clause into the next."""
    if len(clauses) == 1:
        return clauses[0]
    if len(clauses) <= _WIDEST:
        return {operator: list(clauses)}
    middle = len(clauses) // 2
    return {operator: [_joined(operator, clauses[:middle]), _joined(operator, clauses[middle:])]}


def _negated(tree: FilterTree) -> PermanentError:
    (field,) = fields_of(tree)
    return invalid(
        f"Chroma has no '$not', and the opposite of an order of {field!r} cannot be said otherwise; "
        "write the order that is meant, such as '$lte' for not '$gt'"
    )
