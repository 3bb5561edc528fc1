"""Filters in Chroma's words, asked of our fake. `test_chroma_server` asks the real one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.ports.vector_filters import matches, parse_filter
from app.providers.chroma.filter import translate
from tests.conformance.vector_vendors.chroma_server import passes
from tests.providers.filter_samples import RECORDS, filters

FILTERS = filters(exists=False, ordered=st.sampled_from([0, 1, 2.5]))


def kept(record: dict[str, Any]) -> dict[str, Any]:
    """What Chroma keeps of a record's metadata."""
    return {name: value for name, value in record.items() if value not in (None, [])}


@pytest.mark.parametrize(
    ("filter", "said"),
    [
        ({"year": {"$exists": True}}, r"no '\$exists'.*'year'"),
        ({"$not": {"year": {"$exists": True}}}, r"no '\$exists'.*'year'"),
        ({"$not": {"year": {"$gt": 1900}}}, r"no '\$not'.*'year'.*'\$lte'"),
        ({"$not": {"$or": [{"a": 1}, {"b": {"$lte": 1}}]}}, r"no '\$not'.*'b'"),
        ({"title": {"$gt": "Dz"}}, r"orders numbers only.*'\$gt' of 'title'"),
        ({"#document": "x"}, "cannot filter by '#document'"),
        ({"chroma:document": "x"}, "cannot filter by 'chroma:document'"),
        ({"": 1}, "cannot filter by ''"),
    ],
)
def test_what_chroma_lacks_is_refused_with_what_to_do(filter: dict[str, Any], said: str) -> None:
    with pytest.raises(PermanentError, match=said) as caught:
        translate(parse_filter(filter))
    assert caught.value.error_class == "invalid_request"
    assert "Chroma" in str(caught.value)


@given(filter=FILTERS, records=st.lists(RECORDS, min_size=1, max_size=4))
def test_a_clause_lets_through_what_the_language_says(
    filter: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    tree = parse_filter(filter)
    try:
        where = translate(tree)
    except PermanentError as error:
        assert "no '$not'" in str(error)  # noqa: PT017  most filters are not refused
        return
    found = [place for place, it in enumerate(records) if passes(where, kept(it))]
    assert found == [place for place, it in enumerate(records) if matches(tree, it)]


def test_negations_are_pushed_to_the_conditions() -> None:
    tree = parse_filter({"$not": {"$and": [{"year": {"$in": [1, 2]}}, {"open": True}]}})
    assert translate(tree) == {"$or": [{"year": {"$nin": [1, 2]}}, {"open": {"$ne": True}}]}
