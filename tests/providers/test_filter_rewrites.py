"""Rewritten filters pass the same records."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from app.ports.vector_filters import All, AnyOf, Condition, FilterTree, Not, matches, parse_filter
from app.providers.filter_rewrites import push_negations
from tests.providers.filter_samples import RECORDS, filters


@given(filter=filters(), record=RECORDS)
def test_pushing_negations_down_changes_nothing(filter: dict[str, Any], record: dict[str, Any]) -> None:
    tree = parse_filter(filter)
    assert matches(push_negations(tree), record) is matches(tree, record)


@given(filter=filters())
def test_negations_are_left_above_orders_only(filter: dict[str, Any]) -> None:
    assert _negations_stand_above_orders(push_negations(parse_filter(filter)))


def test_nothing_is_the_opposite_of_everything() -> None:
    assert push_negations(Not(All(()))) == AnyOf(())


def _negations_stand_above_orders(tree: FilterTree) -> bool:
    match tree:
        case Condition():
            return True
        case All() | AnyOf():
            return all(map(_negations_stand_above_orders, tree.parts))
        case Not():
            part = tree.part
            return isinstance(part, Condition) and part.operator in {"$gt", "$gte", "$lt", "$lte"}
