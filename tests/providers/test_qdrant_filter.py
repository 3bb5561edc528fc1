"""Filters in Qdrant's words, asked of the engine of the vendor's own client."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

from app.ports.errors import PermanentError
from app.ports.vector_filters import matches, parse_filter
from app.providers.qdrant.filter import NOTHING, key_path, translate
from tests.providers.filter_samples import RECORDS, filters

FILTER: TypeAdapter[models.Filter] = TypeAdapter(models.Filter)


@pytest.fixture(scope="module")
def engine() -> Iterator[QdrantClient]:
    client = QdrantClient(":memory:")
    yield client
    client.close()


def passing(engine: QdrantClient, filter: Mapping[str, Any], records: list[dict[str, Any]]) -> list[int]:
    """Places of the records that the engine lets through."""
    name = str(uuid.uuid4())
    engine.create_collection(name, models.VectorParams(size=1, distance=models.Distance.DOT))
    points = [models.PointStruct(id=place, vector=[1], payload=it) for place, it in enumerate(records)]
    engine.upsert(name, points)
    condition = FILTER.validate_python({"must": [translate(parse_filter(filter))]})
    found, _ = engine.scroll(name, scroll_filter=condition, limit=100)
    engine.delete_collection(name)
    return sorted(int(point.id) for point in found)


@pytest.mark.parametrize("operand", ["Dz", "2024", "2024-05", "tomorrow", "20240501", "2024-05-01x"])
def test_an_order_of_texts_is_refused_with_what_to_write(operand: str) -> None:
    with pytest.raises(PermanentError, match=r"Qdrant orders numbers and dates.*'\$gt' of 'title'") as caught:
        translate(parse_filter({"title": {"$gt": operand}}))
    assert caught.value.error_class == "invalid_request"


def test_a_field_that_cannot_be_named_is_refused() -> None:
    with pytest.raises(PermanentError, match="no double quote"):
        translate(parse_filter({'a"b': 1}))


@given(
    filter=filters(ordered=st.sampled_from([0, 1, 2.5])), records=st.lists(RECORDS, min_size=1, max_size=4)
)
def test_the_engine_lets_through_what_the_language_says(
    engine: QdrantClient, filter: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    tree = parse_filter(filter)
    expected = [place for place, it in enumerate(records) if matches(tree, it)]
    assert passing(engine, filter, records) == expected


@pytest.mark.parametrize("name", ["a.b", "a[]", "a[0].b", "with space", "größe", "it's", "a-b_c", ""])
def test_a_field_is_named_exactly(engine: QdrantClient, name: str) -> None:
    near: dict[str, Any] = {"a": {"b": 1}, "a[": 1, "plain": 1}
    assert passing(engine, {name: 1}, [{name: 1}, {name: 2}, near]) == [0]
    assert passing(engine, {name: {"$exists": False}}, [{name: 1}, near]) == [1]


def test_large_integers_are_told_apart(engine: QdrantClient) -> None:
    records: list[dict[str, Any]] = [{"n": 2**60}, {"n": 2**60 + 1}, {"n": float(2**60)}]
    assert passing(engine, {"n": 2**60 + 1}, records) == [1]
    assert translate(parse_filter({"n": 2**70})) == {"key": "n", "range": {"gte": 2**70, "lte": 2**70}}


def test_dates_are_in_order_whatever_their_precision(engine: QdrantClient) -> None:
    records = [{"at": "2024-05-01"}, {"at": "2024-05-01T10:00:00Z"}, {"at": "2024-05-02"}, {"at": "later"}]
    assert passing(engine, {"at": {"$gte": "2024-05-01T09:00:00Z"}}, records) == [1, 2]
    assert passing(engine, {"at": {"$lt": "2024-05-02"}}, records) == [0, 1]


def test_nothing_is_in_an_empty_list() -> None:
    assert translate(parse_filter({"a": {"$in": []}})) == NOTHING


def test_plain_names_are_not_quoted() -> None:
    assert (key_path("year"), key_path("a.b")) == ("year", '"a.b"')
