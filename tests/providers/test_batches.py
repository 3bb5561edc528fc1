"""Lists longer than a vendor takes at once, embedded by the step over the vendor's wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.gemini.adapter import Gemini, GeminiConfig
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from app.steps.embed import EmbedKind
from tests.steps.fakes import FakeServices, run

KEY = SecretStr("sk-test")


def cohere_texts(body: Any) -> list[str]:
    return list(body["texts"])


def cohere_answer(vectors: list[list[float]]) -> Any:
    return {"embeddings": {"float": vectors}, "meta": {"billed_units": {"input_tokens": len(vectors)}}}


def gemini_texts(body: Any) -> list[str]:
    return [request["content"]["parts"][0]["text"] for request in body["requests"]]


def gemini_answer(vectors: list[list[float]]) -> Any:
    return {"embeddings": [{"values": vector} for vector in vectors]}


def openai_texts(body: Any) -> list[str]:
    return list(body["input"])


def openai_answer(vectors: list[list[float]]) -> Any:
    """In another order than the texts: each says where it belongs."""
    data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return {"data": data[::-1], "usage": {"prompt_tokens": len(vectors)}}


@dataclass
class Wire:
    """A vendor that makes a number's vector of its text, and notes how much it was asked at once."""

    texts: Callable[[Any], list[str]]
    answer: Callable[[list[list[float]]], Any]
    sizes: list[int] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        texts = self.texts(orjson.loads(request.content))
        self.sizes.append(len(texts))
        return httpx.Response(200, json=self.answer([[float(text.split()[0])] for text in texts]))


def adapter(vendor: str, wire: Wire) -> Embedder:
    transport = Transport.over_httpx(httpx.MockTransport(wire))
    match vendor:
        case "cohere":
            return Cohere(CohereConfig(name="main", api_key=KEY), transport)
        case "gemini":
            return Gemini(GeminiConfig(name="main", api_key=KEY), transport)
        case _:
            return OpenAI(OpenAIConfig(name="main", api_key=KEY), transport)


@pytest.mark.parametrize(
    ("vendor", "wire", "words", "sizes"),
    [
        ("cohere", Wire(cohere_texts, cohere_answer), 1, [58, 96, 96]),
        ("gemini", Wire(gemini_texts, gemini_answer), 1, [50, 100, 100]),
        ("openai", Wire(openai_texts, openai_answer), 1, [250]),
        # some 300,000 tokens are the vendor's own bound, whatever the number of texts
        ("openai", Wire(openai_texts, openai_answer), 1000, [25, 75, 75, 75]),
    ],
)
async def test_long_lists_go_in_calls_of_what_the_vendor_takes_and_come_back_in_order(
    vendor: str, wire: Wire, words: int, sizes: list[int]
) -> None:
    texts = [f"{number} " + "padding " * (words - 1) for number in range(250)]
    document = {"provider": "own", "model": "m", "input": texts}
    outcome = await run(EmbedKind(), document, FakeServices(embeddings=adapter(vendor, wire)))

    assert outcome.outputs["vectors"] == [[float(number)] for number in range(250)]
    assert sorted(wire.sizes) == sizes
