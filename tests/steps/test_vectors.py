"""The kinds `vector_search`, `vector_upsert` and `vector_delete`."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.ports.errors import PermanentError
from app.ports.vector_filters import parse_filter
from app.ports.vectors import Hybrid, VectorHit, VectorRecord
from app.steps.kind import RENDERED, StepConfig
from app.steps.vector_delete import VectorDeleteConfig, VectorDeleteKind
from app.steps.vector_search import VectorSearchConfig, VectorSearchKind
from app.steps.vector_upsert import VectorUpsertConfig, VectorUpsertKind
from tests.steps.fakes import FakeServices, FakeVectors, problems, run

PLACE = {"database": "own", "index": "kb"}
SEARCH = {**PLACE, "query": [0.5, 1]}
RECORD = {"id": "a", "vector": [1, 2]}


def refusal(model: type[StepConfig], document: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(document, context=RENDERED)
    return str(refused.value)


def test_searching_by_text_is_refused_with_the_way_to_do_it() -> None:
    assert "type 'embed'" in refusal(VectorSearchConfig, {**SEARCH, "query": "what is it?"})


def test_searching_by_many_vectors_is_refused_with_the_way_to_name_one() -> None:
    assert "vectors[0]" in refusal(VectorSearchConfig, {**SEARCH, "query": [[1.0]]})


@pytest.mark.parametrize(
    "changes",
    [
        {"query": []},
        {"query": [float("nan")]},
        {"query": [True]},
        {"query": ["1"]},
        {"top_k": 0},
        {"top_k": 10_001},
        {"top_k": "5"},
        {"top_k": 2.5},
        {"include_vectors": 1},
        {"filter": []},
        {"limit": 5},
    ],
)
def test_a_wrong_search_is_refused(changes: dict[str, Any]) -> None:
    refusal(VectorSearchConfig, {**SEARCH, **changes})


@pytest.mark.parametrize(
    ("filter", "place"),
    [
        ({"year": {"$gtt": 3}}, "/filter/year/$gtt"),
        ({"$nor": []}, "/filter/$nor"),
        ({"$and": {}}, "/filter/$and"),
        ({"$or": [{"a": 1}, 5]}, "/filter/$or/1"),
        ({"$not": {"$and": [{"a": {"b": 1}}]}}, "/filter/$not/$and/0/a/b"),
        ({"$and": [{"a": 1}, {}]}, "/filter/$and/1"),
        ({"a": {}}, "/filter/a"),
        ({"a": None}, "/filter/a"),
        ({"a": ["x"]}, "/filter/a"),
        ({"a": {"$exists": 1}}, "/filter/a/$exists"),
        ({"a": {"$gt": True}}, "/filter/a/$gt"),
        ({"a": {"$lte": [1]}}, "/filter/a/$lte"),
        ({"a": {"$in": 3}}, "/filter/a/$in"),
        ({"a": {"$nin": [1, "{{ inputs.x }}", None]}}, "/filter/a/$nin/2"),
        ({"$or": [{"a": index} for index in range(501)]}, "/filter"),
    ],
)
def test_a_wrong_filter_is_refused_where_it_is_wrong(filter: dict[str, Any], place: str) -> None:
    assert set(problems(VectorSearchKind(), {**SEARCH, "filter": filter})) == {place}
    with pytest.raises(PermanentError):
        parse_filter(filter)  # nothing is refused that would run


def test_a_filter_without_end_is_refused() -> None:
    endless: dict[str, Any] = {"a": 1}
    for _ in range(100):
        endless = {"$not": endless}

    assert len(problems(VectorDeleteKind(), {**PLACE, "filter": endless})) == 1


def test_good_filters_and_templates_pass() -> None:
    good: dict[str, Any] = {
        "lang": "en",
        "$or": [{"year": {"$gte": "{{ inputs.year }}"}}, "{{ inputs.more }}"],
    }
    good |= {"tag": {"$in": "{{ inputs.tags }}"}, "kind": {"$nin": ["a", 1, "{{ inputs.kind }}"]}}
    for _ in range(14):
        good = {"$and": [good]}

    assert problems(VectorSearchKind(), {**SEARCH, "query": "{{ outputs.e }}", "filter": good}) == {}


@pytest.mark.parametrize(
    "hybrid",
    ["words", {}, {"text": ""}, {"text": "x", "alpha": 1.1}, {"text": "x", "alpha": "0.5"}, {"words": "x"}],
)
def test_a_wrong_hybrid_search_is_refused(hybrid: Any) -> None:
    assert "hybrid" in refusal(VectorSearchConfig, {**SEARCH, "hybrid": hybrid})


@pytest.mark.parametrize(
    ("hybrid", "asked"),
    [
        (None, None),
        ({"text": "the words"}, Hybrid(text="the words", alpha=0.5)),
        ({"text": "the words", "alpha": 1}, Hybrid(text="the words", alpha=1.0)),
    ],
)
async def test_a_search_asks_for_words_where_it_says_so(hybrid: Any, asked: Hybrid | None) -> None:
    vectors = FakeVectors()
    await run(VectorSearchKind(), {**SEARCH, "hybrid": hybrid}, FakeServices(database=vectors))
    assert vectors.calls[0][1]["query"].hybrid == asked


async def test_hits_come_in_the_stores_order_without_vectors() -> None:
    hits = [VectorHit(id="a", score=0.9, metadata={"t": 1}), VectorHit(id="b", score=0.5, vector=[1.0])]
    vectors = FakeVectors(hits=hits)
    outcome = await run(VectorSearchKind(), {**SEARCH, "filter": {}}, FakeServices(database=vectors))

    assert outcome.outputs == {
        "hits": [{"id": "a", "score": 0.9, "metadata": {"t": 1}}, {"id": "b", "score": 0.5, "metadata": {}}],
        "count": 2,
    }
    _, asked = vectors.calls[0]
    assert (asked["query"].top_k, asked["query"].filter, asked["query"].namespace) == (10, None, None)
    assert asked["query"].include_metadata


async def test_vectors_are_shown_when_asked_for() -> None:
    vectors = FakeVectors(hits=[VectorHit(id="b", score=0.5, vector=(1.0, 2.0))])
    outcome = await run(
        VectorSearchKind(), {**SEARCH, "include_vectors": True}, FakeServices(database=vectors)
    )

    assert outcome.outputs["hits"][0]["vector"] == [1.0, 2.0]


@pytest.mark.parametrize(
    "record",
    [
        {"id": ""},
        {"id": None},
        {"id": True},
        {"vector": "x"},
        {"vector": None},
        {"metadata": {"a": {}}},
        {"metadata": {"a": [1]}},
        {"metadata": {"a": float("inf")}},
        {"metadata": None},
        {"text": "x"},
    ],
)
def test_a_wrong_record_is_refused(record: dict[str, Any]) -> None:
    refusal(VectorUpsertConfig, {**PLACE, "vectors": [{**RECORD, **record}]})


@pytest.mark.parametrize(
    ("second", "complaint"),
    [({"id": "a"}, "id 'a'"), ({"id": "b", "vector": [1, 2, 3]}, "'b' has 3 numbers")],
)
async def test_records_that_contradict_each_other_never_reach_the_store(
    second: dict[str, Any], complaint: str
) -> None:
    vectors = FakeVectors()
    with pytest.raises(PermanentError, match=complaint):
        await run(
            VectorUpsertKind(),
            {**PLACE, "vectors": [RECORD, {**RECORD, **second}]},
            FakeServices(database=vectors),
        )
    assert vectors.calls == []


async def test_records_are_written_in_one_call() -> None:
    vectors = FakeVectors()
    metadata = {"t": "x", "n": 1, "f": 0.5, "b": True, "none": None, "tags": ["a"]}
    document = {
        **PLACE,
        "namespace": "n",
        "vectors": [{"id": 7, "vector": [1, 2], "metadata": metadata}, RECORD],
    }
    outcome = await run(VectorUpsertKind(), document, FakeServices(database=vectors))

    assert outcome.outputs == {"count": 2}
    assert vectors.calls == [
        (
            "upsert",
            {
                "index": "kb",
                "namespace": "n",
                "records": [
                    VectorRecord(id="7", vector=[1.0, 2.0], metadata=metadata),
                    VectorRecord(id="a", vector=[1.0, 2.0]),
                ],
            },
        )
    ]


async def test_writing_or_deleting_nothing_calls_nobody() -> None:
    vectors = FakeVectors()
    for kind, document in ((VectorUpsertKind(), {"vectors": []}), (VectorDeleteKind(), {"ids": []})):
        outcome = await run(kind, {**PLACE, **document}, FakeServices(database=vectors))
        assert outcome.outputs == {"count": 0}
    assert vectors.calls == []


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"ids": ["a"], "filter": {"a": 1}},
        {"ids": ["a"], "delete_all": True},
        {"delete_all": False},
        {"delete_all": "yes"},
        {"filter": {}},
        {"filter": None},
        {"ids": None, "filter": None, "delete_all": None},
        {"ids": "a"},
    ],
)
def test_deleting_needs_exactly_one_selection_and_nothing_widens_to_everything(
    selection: dict[str, Any],
) -> None:
    refusal(VectorDeleteConfig, {**PLACE, **selection})


@pytest.mark.parametrize(
    ("selection", "asked"),
    [
        ({"ids": ["a", 2], "delete_all": False}, {"ids": ["a", "2"], "filter": None, "delete_all": False}),
        ({"filter": {"a": 1}}, {"ids": None, "filter": {"a": 1}, "delete_all": False}),
        ({"delete_all": True}, {"ids": None, "filter": None, "delete_all": True}),
    ],
)
async def test_deleting_asks_for_what_was_selected(selection: dict[str, Any], asked: dict[str, Any]) -> None:
    vectors = FakeVectors()
    outcome = await run(VectorDeleteKind(), {**PLACE, **selection}, FakeServices(database=vectors))

    assert outcome.outputs == {"count": 2}
    assert vectors.calls == [("delete", {**asked, "index": "kb", "namespace": None})]


async def test_an_unknown_database_fails_for_good() -> None:
    with pytest.raises(PermanentError, match="'other'"):
        await run(VectorSearchKind(), {**SEARCH, "database": "other"})
