"""Every example of a vendor runs over HTTP, configured as the documentation shows beside it.

The vendor is its fake of the conformance suites, mounted behind the service's own transport, so that
nothing but the network is missing. PostgreSQL is a real one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import pytest

from app.bootstrap import Overrides, build
from app.providers.transport import Transport
from app.settings import Settings
from app.settings_defaults import VENDOR_VARIABLES
from tests.conformance import rerank_servers
from tests.conformance.chat_vendors import anthropic, azure, cohere, gemini, mistral, ollama, openai
from tests.conformance.chat_vendors.vendor import KEY, Said, SaidCall
from tests.conformance.embed_vendors import cohere as cohere_vectors
from tests.conformance.embed_vendors import ollama as ollama_vectors
from tests.conformance.embed_vendors import openai as openai_vectors
from tests.conformance.vector_vendors import chroma_server, pinecone_server, qdrant_server, weaviate_server
from tests.conformance.vector_vendors.pgvector import EXACT
from tests.conformance.vector_vendors.pinecone import CONTROL_SPEC, DATA_SPEC
from tests.conformance.vector_vendors.weaviate import SPEC as WEAVIATE_SPEC
from tests.examples.snippets import ROOT, snippets_of
from tests.examples.vendor_servers import (
    Recorded,
    Server,
    by_host,
    by_path,
    chat_server,
    embed_server,
    failing,
)
from tests.providers.specs import load_spec

PROVIDERS: Final = ROOT / "docs" / "providers.md"
DATABASES: Final = ROOT / "docs" / "vector-databases.md"
PIXEL: Final = "data:image/png;base64,iVBORw0KGgo="
PASSAGES: Final = ["Tickets are ten euros.", "It opens at nine.", "The café is closed."]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A document, who answers it, and what has to come of it."""

    server: Callable[[], Server]
    key: str
    """The variable that holds the key; empty for none."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any]
    sent: Mapping[str, str] = field(default_factory=dict)
    """Headers of the first request."""
    path: str
    """Of the first request."""


def _openai() -> Server:
    said = Said(pieces=['{"what": "the dome opens",', ' "day": "4 May"}'])
    chat = chat_server(openai.VENDOR, said)
    return by_path({"/chat/completions": chat, "/embeddings": embed_server(openai_vectors.VENDOR)})


def _cohere() -> Server:
    chat = chat_server(cohere.VENDOR, Said(pieces=["At nine."]))
    embed, rerank = embed_server(cohere_vectors.VENDOR), rerank_servers.cohere_server
    return by_path({"/v2/chat": chat, "/v2/embed": embed, "/v2/rerank": rerank})


def _ollama() -> Server:
    chat = chat_server(ollama.VENDOR, Said(pieces=["The dome", " opens."]))
    return by_path({"/api/chat": chat, "/api/embed": embed_server(ollama_vectors.VENDOR)})


def _compatible() -> Server:
    other = chat_server(openai.VENDOR, Said(pieces=["Because."], model="gpt-4o-mini"))
    return by_host({"127.0.0.1": failing(openai.VENDOR, 429), "api.openai.com": other})


def _mistral() -> Server:
    call = SaidCall(id="a1b2c3d4e", name="reserve", arguments={"count": 2, "day": "Friday"})
    return chat_server(mistral.VENDOR, Said(pieces=[], calls=[call], finish_reason="tool_calls"))


EXAMPLES: Final[Mapping[str, Example]] = {
    "providers/openai.yaml": Example(
        server=_openai,
        key="OPENAI_API_KEY",
        inputs={"text": "The dome opens on 4 May at nine."},
        outputs={"facts": {"what": "the dome opens", "day": "4 May"}, "vector": [1.0] + [0.0] * 7},
        sent={"authorization": f"Bearer {KEY}", "openai-project": "proj_1234"},
        path="/v1/chat/completions",
    ),
    "providers/azure.yaml": Example(
        server=lambda: chat_server(azure.VENDOR, Said(model="gpt-4o-mini-2024-07-18")),
        key="ORCHESTRATOR_PROVIDERS__AZURE_EU__API_KEY",
        inputs={"question": "Why?"},
        outputs={"answer": "Because it is “so”.", "model": "gpt-4o-mini-2024-07-18"},
        sent={"api-key": KEY},
        path="/openai/deployments/mini-eu/chat/completions",
    ),
    "providers/mistral.yaml": Example(
        server=_mistral,
        key="MISTRAL_API_KEY",
        inputs={"text": "Two tickets for Friday."},
        outputs={"count": 2, "day": "Friday"},
        sent={"authorization": f"Bearer {KEY}"},
        path="/v1/chat/completions",
    ),
    "providers/anthropic.yaml": Example(
        server=lambda: chat_server(anthropic.VENDOR, Said(pieces=["Ten euros."])),
        key="ANTHROPIC_API_KEY",
        inputs={"handbook": "Tickets are ten euros.", "question": "What is a ticket?"},
        outputs={"answer": "Ten euros.", "cached_tokens": 0},
        sent={"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        path="/v1/messages",
    ),
    "providers/cohere.yaml": Example(
        server=_cohere,
        key="COHERE_API_KEY",
        inputs={"question": "When does it open? It opens!", "passages": PASSAGES},
        outputs={"answer": "At nine.", "best": "It opens at nine.", "dimensions": 256},
        sent={"authorization": f"Bearer {KEY}"},
        path="/v2/",
    ),
    "providers/gemini.yaml": Example(
        server=lambda: chat_server(gemini.VENDOR, Said(pieces=['{"seen": ["a dome"]}'])),
        key="GEMINI_API_KEY",
        inputs={"image": PIXEL},
        outputs={
            "seen": ["a dome"],
            "usage": {
                "input_tokens": 12,
                "output_tokens": 3,
                "cached_tokens": None,
                "reasoning_tokens": None,
            },
        },
        sent={"x-goog-api-key": KEY},
        path="/v1beta/models/gemini-2.5-flash:generateContent",
    ),
    "providers/ollama.yaml": Example(
        server=_ollama,
        key="",
        inputs={"text": "The dome opens on 4 May at nine."},
        outputs={"summary": "The dome opens.", "dimensions": 4},
        path="/api/",
    ),
    "providers/compatible.yaml": Example(
        server=_compatible,
        key="OPENAI_API_KEY",
        inputs={"question": "Why?"},
        outputs={"answer": "Because.", "model": "gpt-4o-mini"},
        path="/v1/chat/completions",
    ),
    "providers/rerank.yaml": Example(
        server=lambda: rerank_servers.jina_server,
        key="ORCHESTRATOR_PROVIDERS__RERANKER__API_KEY",
        inputs={"question": "It opens at nine", "passages": PASSAGES},
        outputs={"passages": [PASSAGES[1], PASSAGES[0], PASSAGES[2]]},
        sent={"authorization": f"Bearer {KEY}"},
        path="/v1/rerank",
    ),
    "databases/qdrant.yaml": Example(
        server=lambda: qdrant_server.QdrantServer(load_spec("qdrant-openapi.json")).answer,
        key="ORCHESTRATOR_DATABASES__QDRANT_MAIN__API_KEY",
        outputs={"found": ["comet", "meteor"], "forgotten": 1},
        sent={"api-key": qdrant_server.API_KEY},
        path="/collections/observations",
    ),
    "databases/pinecone.yaml": Example(
        server=lambda: pinecone_server.PineconeServer(load_spec(CONTROL_SPEC), load_spec(DATA_SPEC)).answer,
        key="ORCHESTRATOR_DATABASES__PINECONE_MAIN__API_KEY",
        outputs={"found": ["comet"], "forgotten": 1},
        sent={"api-key": pinecone_server.API_KEY},
        path="/indexes/observations",
    ),
    "databases/weaviate.yaml": Example(
        server=lambda: weaviate_server.WeaviateServer(load_spec(WEAVIATE_SPEC)).answer,
        key="ORCHESTRATOR_DATABASES__WEAVIATE_MAIN__API_KEY",
        outputs={"found": ["comet", "moon"], "forgotten": 3},
        sent={"authorization": f"Bearer {weaviate_server.API_KEY}"},
        path="/v1/schema/Index_observations",
    ),
    "databases/chroma.yaml": Example(
        server=lambda: chroma_server.ChromaServer().answer,
        key="ORCHESTRATOR_DATABASES__CHROMA_MAIN__API_KEY",
        outputs={"found": ["comet"], "forgotten": 1},
        sent={"x-chroma-token": chroma_server.API_KEY},
        path="/api/v2/tenants/default_tenant/databases/default_database/collections/observations",
    ),
}
KEYS: Final = {
    "databases/qdrant.yaml": qdrant_server.API_KEY,
    "databases/pinecone.yaml": pinecone_server.API_KEY,
    "databases/weaviate.yaml": weaviate_server.API_KEY,
    "databases/chroma.yaml": chroma_server.API_KEY,
}
"""What the fakes of databases take for a key."""
WITH_A_TEST_OF_ITS_OWN: Final = {"databases/pgvector.yaml"}


def settings_shown(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that the documentation shows right after its link to an example."""
    document = PROVIDERS if name.startswith("providers/") else DATABASES
    text = document.read_text(encoding="utf-8")
    link = f"](../examples/{name})"
    assert text.count(link) == 1, f"{document.name} has to link to {name} once"
    line = text.count("\n", 0, text.index(link))
    shown = next(it for it in snippets_of(document) if it.language == "yaml" and it.line > line)
    file = folder / "settings.yaml"
    file.write_text(shown.text)
    monkeypatch.setenv("ORCHESTRATOR_CONFIG", str(file))
    return Settings(data_dir=folder / "data")


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in VENDOR_VARIABLES.values():
        for variable in (*variables.key, *variables.base_url):
            monkeypatch.delenv(variable, raising=False)


@asynccontextmanager
async def serving(settings: Settings, server: Server) -> AsyncIterator[httpx.AsyncClient]:
    """The whole service, its vendors replaced on the wire."""
    transport = Transport.over_httpx(httpx.MockTransport(server))
    service = build(settings, Overrides(transport=transport))
    await service.start()
    try:
        over = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=over, base_url="http://127.0.0.1") as client:
            yield client
    finally:
        await service.close()
        await transport.aclose()


async def run(client: httpx.AsyncClient, name: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Register an example and run it; its outputs."""
    document = (ROOT / "examples" / name).read_bytes()
    headers = {"content-type": "application/yaml"}
    registered = await client.post("/v1/workflows", content=document, headers=headers)
    assert registered.status_code == 201, registered.text
    assert registered.json().get("warnings", []) == []
    workflow = registered.json()["name"]
    answer = await client.post(f"/v1/workflows/{workflow}/runs?wait=30", json={"inputs": inputs})
    body: dict[str, Any] = answer.json()
    assert body["status"] == "completed", body
    outputs: dict[str, Any] = body["outputs"]
    return outputs


def test_every_example_of_a_vendor_is_run() -> None:
    folders = [ROOT / "examples" / folder for folder in ("providers", "databases")]
    found = {f"{file.parent.name}/{file.name}" for folder in folders for file in folder.iterdir()}
    assert found == {*EXAMPLES, *WITH_A_TEST_OF_ITS_OWN}


@pytest.mark.parametrize("name", EXAMPLES)
async def test_an_example_runs_with_the_settings_beside_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = EXAMPLES[name]
    if example.key:
        monkeypatch.setenv(example.key, KEYS.get(name, KEY))
    settings = settings_shown(name, tmp_path, monkeypatch)
    server = Recorded(example.server())

    async with serving(settings, server) as client:
        outputs = await run(client, name, example.inputs)

    assert {key: outputs[key] for key in example.outputs} == example.outputs
    first = server.requests[0]
    assert first.url.path.startswith(example.path)
    assert {key: first.headers.get(key) for key in example.sent} == example.sent


async def test_a_fallback_says_why_the_first_server_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    settings = settings_shown("providers/compatible.yaml", tmp_path, monkeypatch)
    server = Recorded(_compatible())
    async with serving(settings, server) as client:
        outputs = await run(client, "providers/compatible.yaml", {"question": "Why?"})
    (missed,) = outputs["tried"]
    assert (missed["provider"], missed["error_class"]) == ("vllm", "rate_limit")
    assert [request.headers.get("authorization") for request in server.requests] == [None, f"Bearer {KEY}"]


async def test_what_the_documents_say_of_requests_is_what_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", KEY)
    settings = settings_shown("providers/mistral.yaml", tmp_path, monkeypatch)
    server = Recorded(_mistral())
    async with serving(settings, server) as client:
        await run(client, "providers/mistral.yaml", {"text": "Two tickets for Friday."})
    (body,) = server.bodies
    assert (body["tool_choice"], body["random_seed"]) == ("any", 7)


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The address of a server."""
    with EXACT.start() as address:
        yield address


@pytest.mark.servers
async def test_the_example_of_postgresql_runs_against_a_real_one(
    postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "databases/pgvector.yaml"
    connection = await asyncpg.connect(postgresql)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    await connection.close()
    monkeypatch.setenv("ORCHESTRATOR_DATABASES__PGVECTOR_MAIN__DSN", postgresql)
    settings = settings_shown(name, tmp_path, monkeypatch)
    async with serving(settings, lambda _: httpx.Response(500)) as client:
        outputs = await run(client, name, {})
    assert outputs == {"found": ["comet", "meteor"], "forgotten": 1}
