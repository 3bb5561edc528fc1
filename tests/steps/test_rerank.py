"""The `rerank` kind."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import RankedDocument, RerankRequest
from app.ports.steps import StepOutcome
from app.steps.kind import RENDERED
from app.steps.rerank import RerankConfig, RerankKind
from tests.steps.fakes import FakeReranker, FakeServices, run

RERANK = {"provider": "own", "model": "m", "query": "q"}
HITS = [
    {"id": "a", "score": 0.9, "metadata": {"text": "one"}},
    {"id": "b", "score": 0.8, "metadata": {"text": "three"}},
    {"id": "c", "score": 0.7, "metadata": {"text": "four"}},
]


async def reranked(documents: list[Any], reranker: FakeReranker | None = None, **changes: Any) -> StepOutcome:
    services = FakeServices(ranker=reranker or FakeReranker())
    return await run(RerankKind(), {**RERANK, "documents": documents, **changes}, services)


def ranked(*places: tuple[int, float]) -> FakeReranker:
    return FakeReranker(ranking=[RankedDocument(index=index, score=score) for index, score in places])


@pytest.mark.parametrize(
    "changes",
    [
        {"query": ""},
        {"query": None},
        {"documents": "text"},
        {"documents": None},
        {"documents": ["x"] * 10_001},
        {"top_n": 0},
        {"top_n": "3"},
        {"key": ""},
        {"top_k": 3},
    ],
)
def test_wrong_keys_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RerankConfig.model_validate({**RERANK, "documents": ["a"], **changes}, context=RENDERED)


@pytest.mark.parametrize(
    ("document", "changes", "complaint"),
    [
        ("", {}, "document 1 has no text;"),
        ({"id": "a"}, {}, "document 1 has no text at 'text'"),
        ({"text": 5}, {}, "document 1 has no text at 'text'"),
        ({"text": "x"}, {"key": "body"}, "document 1 has no text at 'body'"),
        (7, {}, "document 1 is a number"),
        (None, {}, "document 1 is null"),
        (["x"], {}, "document 1 is a list"),
    ],
)
async def test_a_document_without_a_text_is_refused_by_its_place(
    document: Any, changes: dict[str, Any], complaint: str
) -> None:
    reranker = FakeReranker()
    with pytest.raises(PermanentError, match=complaint) as refused:
        await reranked([{"text": "first", "body": "first"}, document], reranker, **changes)

    assert refused.value.error_class == "invalid_request"
    assert reranker.requests == []


async def test_more_documents_than_the_provider_takes_are_refused_with_what_to_do() -> None:
    with pytest.raises(PermanentError, match=r"'own' ranks at most 2 .* given 3; lower 'top_k'"):
        await reranked(["a", "b", "c"], FakeReranker(max_documents=2))


@pytest.mark.parametrize(
    "places", [[(0, 1.0), (0, 0.5)], [(2, 1.0)], [(-1, 1.0)], [(0, float("nan"))], [(0, float("inf"))]]
)
async def test_a_ranking_that_is_none_is_not_believed(places: list[tuple[int, float]]) -> None:
    with pytest.raises(TemporaryError, match="does not fit the 2 documents") as raised:
        await reranked(["a", "b"], ranked(*places))

    assert raised.value.error_class == "invalid_output"


async def test_an_unknown_provider_is_unknown_without_documents_too() -> None:
    with pytest.raises(PermanentError, match="'other'"):
        await reranked([], provider="other")


async def test_no_documents_are_no_call() -> None:
    reranker = FakeReranker()
    outcome = await reranked([], reranker)

    assert outcome.outputs == {"results": [], "model": "m", "usage": None}
    assert (outcome.provider, reranker.requests) == (None, [])


async def test_hits_of_a_search_are_sorted_and_stay_as_they_were() -> None:
    reranker = FakeReranker()
    outcome = await reranked(HITS, reranker, top_n=2)

    assert outcome.outputs["results"] == [
        {"index": 1, "score": 5.0, "document": HITS[1]},
        {"index": 2, "score": 4.0, "document": HITS[2]},
    ]
    assert reranker.requests == [
        RerankRequest(model="m", query="q", documents=["one", "three", "four"], top_n=2)
    ]
    assert (outcome.provider, outcome.model) == ("own", "ranker-1")
    assert outcome.outputs["usage"]["input_tokens"] == 3


async def test_equal_scores_keep_the_order_of_the_documents() -> None:
    outcome = await reranked(["a", "b", "c"], ranked((2, 0.5), (0, 0.5), (1, 0.9)))

    assert [result["index"] for result in outcome.outputs["results"]] == [1, 0, 2]


@pytest.mark.parametrize(
    ("document", "changes", "text"),
    [
        ("plain", {}, "plain"),
        ({"text": "own", "metadata": {"text": "meta"}}, {}, "own"),
        ({"text": None, "metadata": {"text": "meta"}}, {}, "meta"),
        ({"page": {"body": "deep"}}, {"key": "page.body"}, "deep"),
    ],
)
async def test_the_text_is_found_where_documents_have_it(
    document: Any, changes: dict[str, Any], text: str
) -> None:
    reranker = FakeReranker()
    outcome = await reranked([document], reranker, **changes)

    assert list(reranker.requests[0].documents) == [text]
    assert outcome.outputs["results"][0]["document"] == document
