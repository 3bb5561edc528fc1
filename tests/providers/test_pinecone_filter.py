"""Metadata filters as Pinecone is told them."""

from __future__ import annotations

from typing import Any

import pytest

from app.ports.errors import PermanentError
from app.ports.vector_filters import parse_filter
from app.providers.pinecone.filter import expression


def test_strings_are_in_no_order_there_and_the_message_says_what_to_do() -> None:
    with pytest.raises(PermanentError, match=r"Pinecone.*'\$gt'.*'day'.*number") as caught:
        expression(parse_filter({"$or": [{"x": 1}, {"$not": {"day": {"$gt": "2024"}}}]}))
    assert caught.value.error_class == "invalid_request"


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"a": 1}, {"a": {"$eq": 1}}),
        ({"a": {"$in": ["y", "x"]}}, {"a": {"$in": ["x", "y"]}}),
        ({"a": {"$in": [True, 1]}}, {"$or": [{"a": {"$eq": True}}, {"a": {"$eq": 1}}]}),
        ({"a": {"$ne": 1}}, {"$or": [{"a": {"$ne": 1}}, {"a": {"$exists": False}}]}),
        (
            {"a": {"$nin": [False, "x", "y"]}},
            {
                "$or": [
                    {"$and": [{"a": {"$ne": False}}, {"a": {"$nin": ["x", "y"]}}]},
                    {"a": {"$exists": False}},
                ]
            },
        ),
        ({"a": {"$in": []}}, {"$and": [{"a": {"$exists": True}}, {"a": {"$exists": False}}]}),
        ({"a": {"$nin": []}}, {"$or": [{"a": {"$exists": True}}, {"a": {"$exists": False}}]}),
        ({"a": {"$gte": 1, "$lt": 5}}, {"$and": [{"a": {"$gte": 1}}, {"a": {"$lt": 5}}]}),
        ({"$not": {"a": {"$gt": 1}}}, {"$or": [{"a": {"$lte": 1}}, {"a": {"$exists": False}}]}),
        (
            {"$not": {"$or": [{"a": {"$exists": True}}, {"b": {"$ne": 2}}]}},
            {"$and": [{"a": {"$exists": False}}, {"b": {"$eq": 2}}]},
        ),
    ],
)
def test_a_filter_is_said_in_the_operators_there_are(filter: Any, expected: Any) -> None:
    assert expression(parse_filter(filter)) == expected
