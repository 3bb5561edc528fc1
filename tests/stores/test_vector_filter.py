"""Metadata filters: what is refused, and that both ways of evaluating agree with a plain reading."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.ports.vector_filters import MAX_CONDITIONS, MAX_DEPTH, MAX_OPERANDS, fields_of, matches, parse_filter
from app.stores.vector_columns import Column, mask_of


def nested(depth: int) -> dict[str, Any]:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(depth):
        deep = {"$not": deep}
    return deep


@pytest.mark.parametrize(
    ("filter", "complaint"),
    [
        ([], "a mapping"),
        ("x == 1", "a mapping"),
        ({1: 2}, "names are strings"),
        ({"year": {"$gtt": 3}}, r"filter\.year.*'\$gtt'; did you mean '\$gt'"),
        ({"year": {"gt": 3}}, r"'gt'; did you mean '\$gt'"),
        ({"$orr": [{"a": 1}]}, r"'\$orr'; did you mean '\$or'"),
        ({"$gt": 3}, r"unknown operator '\$gt'"),
        ({"year": {"$and": [1]}}, r"unknown operator '\$and'"),
        ({"year": {}}, r"filter\.year.*write a value or an operator"),
        ({"year": None}, r"\$exists"),
        ({"year": {"$ne": None}}, r"\$exists"),
        ({"year": [1, 2]}, r"\$in"),
        ({"year": {"$eq": {"a": 1}}}, "unknown|write a string"),
        ({"year": {"$in": "abc"}}, "write a list"),
        ({"year": {"$in": [1, None]}}, r"filter\.year\.\$in\[1\]"),
        ({"year": {"$in": [0] * (MAX_OPERANDS + 1)}}, "at most"),
        ({"year": {"$gt": True}}, "booleans have no order"),
        ({"year": {"$gt": [1]}}, "write a string, number"),
        ({"year": {"$gt": float("nan")}}, "finite"),
        ({"year": {"$exists": 1}}, "true or false"),
        ({"$and": []}, "one or more"),
        ({"$or": {"a": 1}}, "one or more"),
        ({"$and": [{}]}, "empty filter"),
        ({"$and": [3]}, r"filter\.\$and\[0\]"),
        ({"$not": []}, "a mapping"),
        ({"$not": {}}, "empty filter"),
        (nested(MAX_DEPTH), "nested deeper"),
        ({"$and": [{"a": 1}] * (MAX_CONDITIONS + 1)}, "conditions"),
    ],
)
def test_a_malformed_filter_is_refused_with_its_place_and_what_to_write(filter: Any, complaint: str) -> None:
    with pytest.raises(PermanentError, match=complaint) as caught:
        parse_filter(filter)
    assert caught.value.error_class == "invalid_request"


def test_the_fields_of_a_filter_are_those_it_names() -> None:
    tree = parse_filter({"a": 1, "$or": [{"b": {"$gt": 1}}, {"$not": {"c": "x"}}]})
    assert fields_of(tree) == {"a", "b", "c"}


HUGE = 2**53
scalars = st.one_of(
    st.booleans(),
    st.sampled_from([-1, 0, 1, 2, HUGE, HUGE + 1, -HUGE - 1]),
    st.sampled_from([-1.0, 0.0, -0.0, 0.5, 1.0, 2.5, float(HUGE)]),
    st.sampled_from(["", "a", "b", "ab", "1"]),
)
values = st.one_of(scalars, st.none(), st.lists(st.sampled_from(["", "a", "b"]), max_size=3))
ordered = scalars.filter(lambda value: not isinstance(value, bool))
names = st.sampled_from("xyz")
conditions = st.one_of(
    scalars,
    st.dictionaries(st.sampled_from(["$eq", "$ne"]), scalars, min_size=1),
    st.dictionaries(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered, min_size=1),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(scalars, max_size=4), min_size=1),
    st.fixed_dictionaries({"$exists": st.booleans()}),
)
filters = st.recursive(
    st.dictionaries(names, conditions, min_size=1, max_size=3),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$not": inner}),
        st.tuples(inner, inner).map(lambda pair: {**pair[0], **pair[1]}),
    ),
    max_leaves=6,
)
records = st.lists(st.dictionaries(names, values), max_size=12)


@given(filters, records)
def test_one_by_one_and_by_columns_agree_with_a_plain_reading(
    filter: dict[str, Any], metadata: list[dict[str, Any]]
) -> None:
    expected = selected(filter, metadata)
    tree = parse_filter(filter)
    assert {i for i, data in enumerate(metadata) if matches(tree, data)} == expected
    columns = {name: Column(len(metadata)) for name in fields_of(tree)}
    for slot, data in enumerate(metadata):
        for name, column in columns.items():
            column.set(slot, data.get(name))
    assert set(mask_of(tree, columns, len(metadata)).nonzero()[0].tolist()) == expected


def selected(filter: Mapping[str, Any], metadata: Sequence[Mapping[str, Any]]) -> set[int]:
    """Which records a filter finds, in the algebra of sets."""
    every = set(range(len(metadata)))
    found = set(every)
    for name, value in filter.items():
        if name == "$and":
            found &= every.intersection(*(selected(part, metadata) for part in value))
        elif name == "$or":
            found &= set().union(*(selected(part, metadata) for part in value))
        elif name == "$not":
            found -= selected(value, metadata)
        else:
            for operator, operand in (value if isinstance(value, dict) else {"$eq": value}).items():
                found &= picked(operator, operand, [data.get(name) for data in metadata])
    return found


def picked(operator: str, operand: Any, column: list[Any]) -> set[int]:
    """Which places of a column pass one operator; all are put down to being equal, greater or less."""
    every = set(range(len(column)))

    def places(relation: Callable[[Any, Any], bool], to: Any) -> set[int]:
        pairs = [
            (i, one) for i in every for one in (column[i] if isinstance(column[i], list) else [column[i]])
        ]
        return {i for i, one in pairs if species(one) == species(to) and relation(one, to)}

    def within(wanted: Sequence[Any]) -> set[int]:
        return set().union(*(places(lambda a, b: a == b, one) for one in wanted))

    readings: dict[str, Callable[[], set[int]]] = {
        "$eq": lambda: within([operand]),
        "$ne": lambda: every - within([operand]),
        "$in": lambda: within(operand),
        "$nin": lambda: every - within(operand),
        "$gt": lambda: places(lambda a, b: a > b, operand),
        "$gte": lambda: places(lambda a, b: a > b, operand) | within([operand]),
        "$lt": lambda: places(lambda a, b: a < b, operand),
        "$lte": lambda: places(lambda a, b: a < b, operand) | within([operand]),
        "$exists": lambda: {i for i in every if (column[i] not in (None, [])) is operand},
    }
    return readings[operator]()


def species(value: Any) -> str:
    return {bool: "truth", int: "number", float: "number", str: "text"}.get(type(value), "nothing")
