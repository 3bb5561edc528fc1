"""Metadata filters as Weaviate is told them."""

from __future__ import annotations

from typing import Any

import pytest

from app.ports.errors import PermanentError
from app.ports.vector_filters import parse_filter
from app.providers.weaviate.filter import properties_asked, where_filter

DECLARED = frozenset({"n_a", "t_a", "b_a", "n_b"})
NUMBER = {"path": ["n_a"], "operator": "Equal", "valueNumber": 1.0}
OTHER = {"path": ["n_b"], "operator": "GreaterThan", "valueNumber": 2.0}
PRESENT = {"path": ["present"], "operator": "Equal", "valueText": "=a"}


def test_a_number_beyond_floats_is_refused() -> None:
    with pytest.raises(PermanentError, match="Weaviate cannot hold") as caught:
        where_filter(parse_filter({"a": 10**400}), DECLARED)
    assert caught.value.error_class == "invalid_request"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"a": 1}, NUMBER),
        ({"a": "x"}, {"path": ["t_a"], "operator": "Equal", "valueText": "=x"}),
        ({"a": {"$ne": 1}}, {"operator": "Not", "operands": [NUMBER]}),
        (
            {"a": {"$in": ["y", "x", True]}},
            {
                "operator": "Or",
                "operands": [
                    {"path": ["b_a"], "operator": "Equal", "valueBoolean": True},
                    {"path": ["t_a"], "operator": "ContainsAny", "valueTextArray": ["=x", "=y"]},
                ],
            },
        ),
        ({"a": {"$lte": "x"}}, {"path": ["t_a"], "operator": "LessThanEqual", "valueText": "=x"}),
        ({"a": {"$exists": True}}, PRESENT),
        ({"a": {"$exists": False}}, {"operator": "Not", "operands": [PRESENT]}),
        ({"a": 1, "b": {"$gt": 2}}, {"operator": "And", "operands": [NUMBER, OTHER]}),
        ({"$not": {"b": {"$gt": 2}}}, {"operator": "Not", "operands": [OTHER]}),
        ({"unknown": 1}, False),
        ({"unknown": {"$ne": 1}}, True),
        ({"a": {"$in": []}}, False),
        ({"a": {"$nin": []}}, True),
        ({"$or": [{"unknown": 1}, {"a": 1}]}, NUMBER),
        ({"$or": [{"unknown": {"$ne": 1}}, {"a": 1}]}, True),
        ({"$and": [{"unknown": {"$ne": 1}}, {"a": 1}]}, NUMBER),
        ({"$and": [{"unknown": 1}, {"a": 1}]}, False),
    ],
)
def test_a_filter_is_said_of_the_properties_there_are(filter: Any, expected: Any) -> None:
    assert where_filter(parse_filter(filter), DECLARED) == expected


def test_a_filter_asks_about_its_fields_of_every_kind() -> None:
    asked = properties_asked(parse_filter({"a b": 1, "c": {"$exists": True}}))
    assert asked == {"n_a_20b", "t_a_20b", "b_a_20b", "n_c", "t_c", "b_c"}
