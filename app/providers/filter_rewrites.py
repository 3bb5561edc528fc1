"""Filters said in another way, for databases that do not know every operator. Pure, no vendor.

What is said here is said by `app.ports.vector_filters` too: a rewritten filter passes the same records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not

_OPPOSITES: Final[Mapping[str, str]] = {"$eq": "$ne", "$ne": "$eq", "$in": "$nin", "$nin": "$in"}


def push_negations(tree: FilterTree) -> FilterTree:
    """The same filter with `$not` nowhere but right above `$gt`, `$gte`, `$lt` and `$lte`.

    By De Morgan's laws. An order has no opposite: `$not: {year: {$gt: 1}}` lets through what has no year.
    """
    return _pushed(tree, negated=False)


def _pushed(tree: FilterTree, *, negated: bool) -> FilterTree:
    match tree:
        case Condition():
            return _opposite(tree) if negated else tree
        case All():
            parts = tuple(_pushed(part, negated=negated) for part in tree.parts)
            return AnyOf(parts) if negated else All(parts)
        case AnyOf():
            parts = tuple(_pushed(part, negated=negated) for part in tree.parts)
            return All(parts) if negated else AnyOf(parts)
        case Not():
            return _pushed(tree.part, negated=not negated)
        case _:
            assert_never(tree)


def _opposite(condition: Condition) -> FilterTree:
    if condition.operator == "$exists":
        return Condition(condition.field, "$exists", frozenset({("boolean", not condition.operand)}))
    opposite = _OPPOSITES.get(condition.operator)
    if opposite is None:
        return Not(condition)
    return Condition(condition.field, opposite, condition.operands)
