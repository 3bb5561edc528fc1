"""Servers that rerank, in both shapes: bytes out, rankings in, errors by status and words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.configuration import instance_config
from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext, RankedDocument, RerankRequest, RerankResult, Usage
from app.providers.rerank_server import RerankServer, RerankServerConfig
from app.providers.transport import Transport
from app.settings_providers import RerankServerSettings

CANARY = "canary-0123456789abcdef"
REQUEST = RerankRequest(model="bge-reranker", query="why?", documents=["a", "b", "c"])
TEI: dict[str, Any] = {"shape": "tei"}

Answer = httpx.Response | Callable[[httpx.Request], httpx.Response]


def server(answer: Answer, **config: Any) -> RerankServer:
    handler = answer if callable(answer) else lambda request: answer
    settings: dict[str, Any] = {
        "name": "ours",
        "base_url": "http://127.0.0.1:8080/v1",
        "api_key": SecretStr(CANARY),
        **config,
    }
    return RerankServer(RerankServerConfig(**settings), Transport.over_httpx(httpx.MockTransport(handler)))


def results(*places: tuple[Any, Any]) -> dict[str, Any]:
    return {"results": [{"index": index, "relevance_score": score} for index, score in places]}


def refuse(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"it must not be sent: {request.url}")


# --- errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"detail": "no such field"}, (PermanentError, "invalid_request", "no such field")),
        (401, {"detail": f"wrong key {CANARY}"}, (PermanentError, "authentication", "credentials")),
        (404, {"object": "error", "message": "no model"}, (PermanentError, "not_found", "no model")),
        (
            413,
            {"error": "batch size 64 > maximum allowed batch size 32", "error_type": "Validation"},
            (PermanentError, "too_large", "batch size 64"),
        ),
        (
            413,
            {"error": "`inputs` must have less than 512 tokens. Given: 700", "error_type": "Validation"},
            (PermanentError, "context_length", "512 tokens"),
        ),
        (
            400,
            {"error": {"code": 400, "message": "input is too long", "type": "invalid_request_error"}},
            (PermanentError, "context_length", "too long"),
        ),
        (422, {"detail": [{"loc": ["body"]}]}, (PermanentError, "invalid_request", "no reason")),
        (424, {"error": "inference failed"}, (PermanentError, "invalid_request", "inference failed")),
        (429, {"error": "model is overloaded"}, (TemporaryError, "rate_limit", "overloaded")),
        (500, {"error": {"message": "out of memory"}}, (TemporaryError, "server_error", "out of memory")),
        (503, {"error": 7}, (TemporaryError, "server_error", "no reason")),
    ],
)
@pytest.mark.parametrize("shape", ["cohere", "tei"])
async def test_statuses_and_words_become_errors_of_their_class(
    context: CallContext, shape: str, status: int, body: Any, expected: tuple[type[CallError], str, str]
) -> None:
    kind, error_class, words = expected
    with pytest.raises(kind, match=words) as failed:
        await server(httpx.Response(status, json=body), shape=shape).rerank(REQUEST, context)
    assert (failed.value.error_class, failed.value.status) == (error_class, status)
    assert "'ours'" in str(failed.value)
    assert CANARY not in str(failed.value)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": None},
        results((0, 0.5), (1, 0.4)),
        results((0, 0.5), (1, 0.4), (1, 0.3)),
        results((0, 0.5), (1, 0.4), (3, 0.3)),
        results((0, 0.5), (1, 0.4), (-1, 0.3)),
        results((0, 0.5), (1, 0.4), ("2", 0.3)),
        results((0, 0.5), (1, 0.4), (True, 0.3)),
        results((0, 0.5), (1, 0.4), (2, None)),
        results((0, 0.5), (1, 0.4), (2, True)),
        results((0, 0.5), (1, 0.4), (2, "0.3")),
    ],
)
async def test_a_ranking_that_does_not_fit_the_documents_may_be_asked_for_again(
    context: CallContext, answer: Any
) -> None:
    in_other_words = [
        {"index": it["index"], "score": it["relevance_score"]} for it in answer.get("results") or []
    ]
    for adapter in (
        server(httpx.Response(200, json=answer)),
        server(httpx.Response(200, json=in_other_words), **TEI),
    ):
        with pytest.raises(TemporaryError) as failed:
            await adapter.rerank(REQUEST, context)
        assert failed.value.error_class == "invalid_output"


@pytest.mark.parametrize(("shape", "content"), [("cohere", b"[]"), ("tei", b"{}"), ("tei", b"no JSON")])
async def test_an_answer_of_the_other_shape_may_be_asked_for_again(
    context: CallContext, shape: str, content: bytes
) -> None:
    with pytest.raises(TemporaryError) as failed:
        await server(httpx.Response(200, content=content), shape=shape).rerank(REQUEST, context)
    assert failed.value.error_class == "invalid_output"


async def test_a_success_that_holds_an_error_is_one(context: CallContext) -> None:
    answer = httpx.Response(200, json={"error": {"message": "the model is still loading"}})
    with pytest.raises(TemporaryError, match="still loading"):
        await server(answer).rerank(REQUEST, context)


async def test_more_documents_than_the_server_takes_are_not_sent(context: CallContext) -> None:
    with pytest.raises(PermanentError, match="'ours' takes at most 2 documents") as failed:
        await server(refuse, max_documents=2).rerank(REQUEST, context)
    assert failed.value.error_class == "invalid_request"


@pytest.mark.parametrize("shape", ["cohere", "tei"])
async def test_text_that_is_no_unicode_is_not_sent(context: CallContext, shape: str) -> None:
    with pytest.raises(PermanentError) as failed:
        await server(refuse, shape=shape).rerank(replace(REQUEST, query="\ud800"), context)
    assert failed.value.error_class == "invalid_request"


def test_a_base_url_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'ours'"):
        server(refuse, base_url="localhost:8080")


# --- requests -----------------------------------------------------------------------------------------


class Recording:
    """Answers every request alike and keeps the last."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer
        self.request = httpx.Request("GET", "http://127.0.0.1")

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.request = request
        return httpx.Response(200, json=self._answer)


@pytest.mark.parametrize(("top_n", "sent"), [(None, {}), (2, {"top_n": 2}), (50, {"top_n": 3})])
async def test_the_common_shape(context: CallContext, top_n: int | None, sent: dict[str, int]) -> None:
    wire = Recording(results((1, 0.9), (0, 0.5), (2, 0.1)))
    adapter = server(wire, headers={"x-team": "search", "x-token": SecretStr("further-secret")})
    await adapter.rerank(replace(REQUEST, top_n=top_n), context)

    assert str(wire.request.url) == "http://127.0.0.1:8080/v1/rerank"
    assert orjson.loads(wire.request.content) == {
        "model": "bge-reranker",
        "query": "why?",
        "documents": ["a", "b", "c"],
        **sent,
    }
    headers = wire.request.headers
    assert headers["authorization"] == f"Bearer {CANARY}"
    assert headers["idempotency-key"] == "r:answer"
    assert (headers["x-team"], headers["x-token"]) == ("search", "further-secret")


async def test_the_shape_of_text_embeddings_inference(context: CallContext) -> None:
    wire = Recording([{"index": 0, "score": -1.5}, {"index": 2, "score": 3}, {"index": 1, "score": 0.5}])
    adapter = server(wire, base_url="http://127.0.0.1:8080/", api_key=None, **TEI)
    result = await adapter.rerank(replace(REQUEST, top_n=2), context)

    assert str(wire.request.url) == "http://127.0.0.1:8080/rerank"
    assert orjson.loads(wire.request.content) == {
        "query": "why?",
        "texts": ["a", "b", "c"],
        "truncate": True,
    }
    assert "authorization" not in wire.request.headers
    assert result == RerankResult(
        ranking=[RankedDocument(index=2, score=3.0), RankedDocument(index=1, score=0.5)],
        model="bge-reranker",
        usage=Usage(),
    )


# --- answers ------------------------------------------------------------------------------------------


async def test_the_best_come_first_whatever_order_they_came_in(context: CallContext) -> None:
    answer = httpx.Response(200, json=results((2, 0.2), (1, 0.7), (0, 0.2)))
    ranking = (await server(answer).rerank(REQUEST, context)).ranking
    assert [(place.index, place.score) for place in ranking] == [(1, 0.7), (0, 0.2), (2, 0.2)]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 7, "total_tokens": 9}, 7),
        ({"total_tokens": 9}, 9),
        ({"total_tokens": "many"}, None),
        (None, None),
    ],
)
async def test_tokens_are_counted_where_the_server_counts_them(
    context: CallContext, usage: Any, tokens: int | None
) -> None:
    body = {**results((0, 0.3), (1, 0.2), (2, 0.1)), "usage": usage, "model": "bge-reranker-v2"}
    result = await server(httpx.Response(200, json=body)).rerank(REQUEST, context)
    assert result.usage == Usage(input_tokens=tokens)
    assert result.model == "bge-reranker-v2"


@pytest.mark.parametrize("shape", ["cohere", "tei"])
async def test_no_documents_are_no_call(context: CallContext, shape: str) -> None:
    result = await server(refuse, shape=shape).rerank(replace(REQUEST, documents=[]), context)
    assert list(result.ranking) == []


def test_the_settings_make_an_instance() -> None:
    settings = RerankServerSettings(
        base_url="http://tei:80", shape="tei", max_documents=32, timeout_seconds=5, max_concurrency=4
    )
    assert instance_config("tei", settings) == RerankServerConfig(
        name="tei",
        base_url="http://tei:80",
        shape="tei",
        max_documents=32,
        timeout_seconds=5,
        max_concurrency=4,
    )
