"""What is particular to a reranker: failures to order, refusals, counts, and how instances offer it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import Metrics
from app.observability.tracing import NullTracer
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext, RerankRequest
from app.providers.echo import Echo, EchoConfig
from app.providers.instances import LocalConfig
from app.providers.local.embedder import LocalEmbedder
from app.providers.local.models import LocalModels
from app.providers.local.packages import EMBEDDING_MODEL
from app.providers.local.reranker import LocalReranker
from app.providers.metered import Meter, MeteredReranker
from app.providers.openai.adapter import OpenAIConfig
from app.providers.registry import connect
from app.providers.wrapping import Wrapping
from app.security.egress import EgressPolicy

needs_embeddings = pytest.mark.skipif(
    not LocalModels.embeddings_available(), reason="the local extra is not installed"
)


def ask(query: str, *documents: str, model: str = EMBEDDING_MODEL) -> RerankRequest:
    return RerankRequest(model=model, query=query, documents=documents)


async def test_echo_fails_as_its_model_name_orders(context: CallContext) -> None:
    with pytest.raises(TemporaryError):
        await Echo(EchoConfig()).rerank(ask("q", "d", model="fail:timeout"), context)


async def test_echo_scores_by_the_part_of_the_query_that_a_document_has(context: CallContext) -> None:
    ranking = (
        await Echo(EchoConfig()).rerank(ask("Red apples", "red", "APPLES, red!", "x"), context)
    ).ranking

    assert [(place.index, place.score) for place in ranking] == [(1, 1.0), (0, 0.5), (2, 0.0)]


@needs_embeddings
async def test_the_local_one_refuses_an_empty_query_and_another_model(context: CallContext) -> None:
    local = LocalReranker(LocalEmbedder())
    with pytest.raises(PermanentError, match="the query is empty"):
        await local.rerank(ask(" ", "d"), context)
    with pytest.raises(PermanentError, match=EMBEDDING_MODEL) as refused:
        await local.rerank(ask("q", "d", model="rerank-v3"), context)
    assert refused.value.error_class == "not_found"


@needs_embeddings
async def test_the_local_ones_scores_are_cosines_of_many_documents_as_of_few(context: CallContext) -> None:
    local = LocalReranker(LocalEmbedder())
    few = (await local.rerank(ask("night sky", "night sky", "a red car"), context)).ranking
    many = (await local.rerank(ask("night sky", *["night sky", "a red car"] * 50), context)).ranking

    assert few[0].score == pytest.approx(1, abs=1e-4)
    assert {place.score for place in many} == {place.score for place in few}


async def test_calls_are_counted_with_their_tokens(context: CallContext) -> None:
    registry = CollectorRegistry()
    reranker = MeteredReranker(Echo(EchoConfig()), Meter("main", Metrics(registry), NullTracer()))
    await reranker.rerank(ask("one two", "three", model="m"), context)

    calls = {"provider": "main", "model": "m", "status": "success"}
    tokens = {"provider": "main", "model": "m", "type": "input"}
    assert registry.get_sample_value("orchestrator_llm_requests_total", calls) == 1
    assert registry.get_sample_value("orchestrator_llm_tokens_total", tokens) == 3


async def test_instances_that_rerank_are_found_by_name_and_others_are_not() -> None:
    providers = connect(
        [EchoConfig(max_concurrency=2), LocalConfig(), OpenAIConfig(name="openai")],
        policy=EgressPolicy(),
        vectors={},
        wrapping=Wrapping(recorder=Metrics(CollectorRegistry()), tracer=NullTracer()),
    )

    assert providers.reranker_names == ("echo", "local")
    assert providers.reranker("echo").max_documents == 10_000
    with pytest.raises(PermanentError, match="no reranking provider 'openai'; configured are: echo, local"):
        providers.reranker("openai")
    await providers.aclose()
