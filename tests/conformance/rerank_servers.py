"""Servers that rerank, in the shapes that there are: a document's score is its part of the query's words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx
import orjson
from pydantic import SecretStr

from app.ports.models import Reranker
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.rerank_server import RerankServer, RerankServerConfig
from app.providers.transport import Transport

KEY: Final = "canary-0123456789abcdef"
_WORD: Final = re.compile(r"\w+")


def _scores(query: str, documents: Sequence[str]) -> list[tuple[int, float]]:
    """Index and score, best first."""
    wanted = set(_WORD.findall(query.lower()))
    scores = [len(wanted & set(_WORD.findall(text.lower()))) / len(wanted) for text in documents]
    return sorted(enumerate(scores), key=lambda place: -place[1])


def _results(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    ranked = _scores(body["query"], body["documents"])
    return [{"index": index, "relevance_score": score} for index, score in ranked[: body.get("top_n")]]


def cohere_server(request: httpx.Request) -> httpx.Response:
    """Cohere's own v2/rerank: it bills searches and counts no tokens."""
    body = orjson.loads(request.content)
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return httpx.Response(200, json={"id": "07734bd2", "results": _results(body), "meta": meta})


def jina_server(request: httpx.Request) -> httpx.Response:
    """What Jina and vLLM answer."""
    body = orjson.loads(request.content)
    usage = {"total_tokens": 42, "prompt_tokens": 42}
    return httpx.Response(200, json={"model": body["model"], "usage": usage, "results": _results(body)})


def tei_server(request: httpx.Request) -> httpx.Response:
    """What Text Embeddings Inference answers; the order is not promised."""
    body = orjson.loads(request.content)
    ranked = _scores(body["query"], body["texts"])
    return httpx.Response(200, json=[{"index": index, "score": score} for index, score in reversed(ranked)])


def cohere() -> Reranker:
    """Cohere over its server."""
    transport = Transport.over_httpx(httpx.MockTransport(cohere_server))
    return Cohere(CohereConfig(name="main", api_key=SecretStr(KEY)), transport)


def server() -> Reranker:
    """Any server of the common shape."""
    config = RerankServerConfig(name="main", base_url="http://127.0.0.1:8080/v1", api_key=SecretStr(KEY))
    return RerankServer(config, Transport.over_httpx(httpx.MockTransport(jina_server)))


def tei() -> Reranker:
    """Text Embeddings Inference."""
    config = RerankServerConfig(name="main", base_url="http://127.0.0.1:8080", shape="tei")
    return RerankServer(config, Transport.over_httpx(httpx.MockTransport(tei_server)))
