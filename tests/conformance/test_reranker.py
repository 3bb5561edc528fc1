"""What every reranker does, over each of them, bare and wrapped."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import Metrics
from app.observability.tracing import NullTracer
from app.ports.models import CallContext, Reranker, RerankRequest
from app.ports.provider_status import Bounds
from app.providers.echo import Echo, EchoConfig
from app.providers.guarded import GuardedReranker
from app.providers.local.embedder import LocalEmbedder
from app.providers.local.models import LocalModels
from app.providers.local.packages import EMBEDDING_MODEL
from app.providers.local.reranker import LocalReranker
from app.providers.metered import Meter, MeteredReranker
from app.providers.wrapping import InstanceTerms, Wrapping
from tests.conformance import rerank_servers

CALL = CallContext(run_id="r", path="p", attempt=1, idempotency_key="k", timeout_seconds=5)
QUERY = "how much is a ticket for a child"
DOCUMENTS = [
    "The café opens at nine.",
    "A ticket for a child is three euros.",
    "",
    "Tickets are sold at the gate.",
    "A ticket for a child is three euros.",
    "  \n",
]


def _echo() -> Reranker:
    return Echo(EchoConfig())


def _local() -> Reranker:
    if not LocalModels.embeddings_available():
        pytest.skip("the local extra is not installed")
    return LocalReranker(LocalEmbedder())


def _wrapped() -> Reranker:
    wrapping = Wrapping(recorder=Metrics(CollectorRegistry()), tracer=NullTracer())
    guard = wrapping.guard("main", InstanceTerms(bounds=Bounds(max_concurrency=1)))
    return GuardedReranker(MeteredReranker(_echo(), Meter("main", wrapping.recorder, wrapping.tracer)), guard)


RERANKERS: dict[str, Callable[[], Reranker]] = {
    "cohere": rerank_servers.cohere,
    "echo": _echo,
    "local": _local,
    "rerank": rerank_servers.server,
    "rerank, tei": rerank_servers.tei,
    "wrapped": _wrapped,
}


@pytest.fixture(params=sorted(RERANKERS))
def reranker(request: pytest.FixtureRequest) -> Reranker:
    return RERANKERS[request.param]()


def ask(*documents: str, top_n: int | None = None) -> RerankRequest:
    return RerankRequest(model=EMBEDDING_MODEL, query=QUERY, documents=documents, top_n=top_n)


async def test_no_documents_have_an_empty_ranking(reranker: Reranker) -> None:
    assert list((await reranker.rerank(ask(), CALL)).ranking) == []


async def test_every_document_has_one_place_and_the_best_comes_first(reranker: Reranker) -> None:
    ranking = (await reranker.rerank(ask(*DOCUMENTS), CALL)).ranking
    scores = [place.score for place in ranking]

    assert sorted(place.index for place in ranking) == list(range(len(DOCUMENTS)))
    assert scores == sorted(scores, reverse=True)
    assert all(math.isfinite(score) for score in scores)


async def test_what_answers_is_before_what_does_not_and_equals_keep_their_order(reranker: Reranker) -> None:
    ranking = (await reranker.rerank(ask(*DOCUMENTS), CALL)).ranking

    assert [place.index for place in ranking][:2] == [1, 4]
    assert ranking[0].score == ranking[1].score


@pytest.mark.parametrize(("top_n", "count"), [(1, 1), (3, 3), (100, len(DOCUMENTS)), (None, len(DOCUMENTS))])
async def test_no_more_than_asked_for_and_the_best_of_them(
    reranker: Reranker, top_n: int | None, count: int
) -> None:
    best = (await reranker.rerank(ask(*DOCUMENTS, top_n=top_n), CALL)).ranking
    everything = (await reranker.rerank(ask(*DOCUMENTS), CALL)).ranking

    assert list(best) == list(everything)[:count]


async def test_the_same_question_has_the_same_answer(reranker: Reranker) -> None:
    first = await reranker.rerank(ask(*DOCUMENTS), CALL)

    assert await reranker.rerank(ask(*DOCUMENTS), CALL) == first
    assert first.model == EMBEDDING_MODEL
    assert first.usage.input_tokens is None or first.usage.input_tokens > 0


async def test_as_many_documents_as_it_says_are_taken(reranker: Reranker) -> None:
    assert reranker.max_documents >= 100
    documents = [f"number {number}" for number in range(min(reranker.max_documents, 1_000))]

    assert len((await reranker.rerank(ask(*documents), CALL)).ranking) == len(documents)
