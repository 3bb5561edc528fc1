"""Metadata filters in Pinecone's words. Pure, no I/O.

Pinecone (documentation, "Metadata filter expressions") has `$eq $ne $gt $gte $lt $lte $in $nin $exists
$and $or` and no `$not`: negations are pushed down to the conditions first. Numbers alone are in order
there. `$in` takes strings and numbers, no booleans. Fields without a value are never stored (see
`format`), so that they do not exist there.

One thing is not exactly as `app.ports.vector_filters` has it: under a `$not`, a comparison of numbers
does not let through a field that holds something other than a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, assert_never

from app.ports.errors import PermanentError
from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not
from app.providers.filter_rewrites import push_negations

Expression = dict[str, Any]

_CONVERSE: Final[Mapping[str, str]] = {"$gt": "$lte", "$gte": "$lt", "$lt": "$gte", "$lte": "$gt"}


def expression(tree: FilterTree) -> Expression:
    """The filter expression. Raises `PermanentError` of class `invalid_request` for what Pinecone lacks."""
    return _written(push_negations(tree))


def _written(tree: FilterTree) -> Expression:
    match tree:
        case Condition():
            return _condition(tree)
        case All():
            return _joined("$and", [_written(part) for part in tree.parts])
        case AnyOf():
            return _joined("$or", [_written(part) for part in tree.parts])
        case Not(part=Condition() as condition):
            _check_order(condition)
            converse = Condition(condition.field, _CONVERSE[condition.operator], condition.operands)
            return _joined("$or", [_condition(converse), _exists(condition.field, there=False)])
        case Not():
            raise AssertionError("negations stand right above conditions here")
        case _:
            assert_never(tree)


def _condition(condition: Condition) -> Expression:
    field = condition.field
    if condition.operator == "$exists":
        return _exists(field, there=condition.operand)
    if condition.tests_membership:
        return _membership(condition)
    _check_order(condition)
    return {field: {condition.operator: condition.operand}}


def _check_order(condition: Condition) -> None:
    if isinstance(condition.operand, str):
        raise PermanentError(
            "invalid_request",
            f"Pinecone cannot compare strings with {condition.operator!r} (field {condition.field!r}); store "
            "a number instead, such as a date as its seconds, or use '$in'",
        )


def _membership(condition: Condition) -> Expression:
    """One of the operands, or none of them."""
    field = condition.field
    listed = sorted(
        (value for kind, value in condition.operands if kind != "boolean"), key=lambda it: (str(type(it)), it)
    )
    booleans = sorted(value for kind, value in condition.operands if kind == "boolean")
    one, many = ("$ne", "$nin") if condition.negated else ("$eq", "$in")
    tests: list[Expression] = [{field: {one: value}} for value in booleans]
    if len(listed) == 1:
        tests.append({field: {one: listed[0]}})
    elif listed:
        tests.append({field: {many: listed}})
    if condition.negated:
        # Said in so many words, because what a record without the field passes is nowhere written down.
        all_differ = _joined("$and", tests) if tests else _exists(field, there=True)
        return _joined("$or", [all_differ, _exists(field, there=False)])
    if not tests:  # one of nothing: what no record passes
        return _joined("$and", [_exists(field, there=True), _exists(field, there=False)])
    return _joined("$or", tests)


def _exists(field: str, *, there: bool) -> Expression:
    return {field: {"$exists": there}}


def _joined(join: str, parts: list[Expression]) -> Expression:
    return parts[0] if len(parts) == 1 else {join: parts}
