"""What a caller sees of index contracts: runs that fail before any call, warnings, and what a plan tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.bootstrap import build
from app.settings import Settings

A, B = "words-a", "words-b"
"""Two models of one length, as far as the echo knows."""


@asynccontextmanager
async def served(data_dir: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The service over a data directory."""
    service = build(Settings(data_dir=data_dir))
    await service.start()
    transport = httpx.ASGITransport(service.app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client
    finally:
        await service.close()


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with served(tmp_path / "data") as client:
        yield client


def embed(text: str, model: str = A, **more: Any) -> dict[str, Any]:
    return {"id": "e", "type": "embed", "provider": "echo", "model": model, "input": text, **more}


def fill(model: str = A, **more: Any) -> dict[str, Any]:
    """Three texts to an index."""
    records = {"id": "{{ inputs.texts }}", "vector": "{{ steps.e.vectors }}"}
    steps = [
        embed("{{ inputs.texts }}", model, dimensions=8),
        {"id": "r", "type": "transform", "function": "zip", "inputs": [records]},
        {
            "id": "put",
            "type": "vector_upsert",
            "database": "embedded",
            "index": "kb",
            "vectors": "{{ steps.r.result }}",
            **more,
        },
    ]
    return {"name": "fill", "steps": steps, "outputs": {"count": "{{ steps.put.count }}"}}


def find(model: str = A, *, dimensions: int = 8, **more: Any) -> dict[str, Any]:
    """One text from an index."""
    search = {"id": "find", "type": "vector_search", "database": "embedded", "index": "kb"}
    asked = {**search, "query": "{{ steps.e.vector }}", "top_k": 1, **more}
    steps = [embed("one", model, dimensions=dimensions), asked]
    return {"name": "find", "steps": steps, "outputs": {"hits": "{{ steps.find.hits }}"}}


async def run(client: httpx.AsyncClient, workflow: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    answer = await client.post("/v1/runs?wait=30", json={"workflow": workflow, "inputs": inputs})
    assert answer.status_code == 200, answer.text
    ended: dict[str, Any] = answer.json()
    return ended


async def filled(client: httpx.AsyncClient, *texts: str, model: str = A) -> None:
    ended = await run(client, fill(model), texts=list(texts))
    assert ended["status"] == "completed", ended
    assert ended["outputs"] == {"count": len(texts)}


async def calls(client: httpx.AsyncClient, operation: str) -> float:
    """How often the database was asked."""
    text = (await client.get("/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("orchestrator_vector_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if f'operation="{operation}"' in line)


async def test_a_search_with_another_model_of_the_same_length_fails_before_any_call(
    client: httpx.AsyncClient,
) -> None:
    await filled(client, "one", "two", "three")
    ended = await run(client, find(B))
    assert ended["status"] == "failed"
    assert ended["error"]["error_class"] == "invalid_request"
    assert ended["error"]["message"] == (
        f"index 'kb' of 'embedded' holds vectors of {A!r} with 8 dimensions; this query was made by {B!r} "
        "with 8 dimensions: embed it with the same model, or use another index"
    )
    assert ended["error"]["path"] == "find"
    assert await calls(client, "search") == 0
    assert (await run(client, find()))["outputs"]["hits"][0]["id"] == "one"
    assert await calls(client, "search") == 1


async def test_an_upsert_of_another_model_or_length_fails_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    await filled(client, "one")
    for wrong in (fill(B), find(dimensions=16)):
        ended = await run(client, wrong, texts=["four"])
        assert ended["error"]["error_class"] == "invalid_request"
    assert await calls(client, "upsert") == 1
    assert [hit["id"] for hit in (await run(client, find(top_k=9)))["outputs"]["hits"]] == ["one"]


async def test_a_model_that_an_input_names_is_held_to_the_contract(client: httpx.AsyncClient) -> None:
    await filled(client, "one")
    named = find("{{ inputs.model }}")
    assert (await run(client, named, model=A))["status"] == "completed"
    assert f"made by {B!r}" in (await run(client, named, model=B))["error"]["message"]


async def test_a_step_may_name_the_model_itself(client: httpx.AsyncClient) -> None:
    await filled(client, "one")
    assert (await run(client, fill("alias-of-a", embedding_model=A), texts=["two"]))["status"] == "completed"
    assert (await run(client, find("alias-of-a", embedding_model=A)))["status"] == "completed"
    named = find("alias-of-a", embedding_model="{{ inputs.model | default(none) }}")
    assert (await run(client, named, model=A))["status"] == "completed"
    assert (await run(client, named, model=B))["status"] == "failed"
    assert (await run(client, named))["status"] == "completed"  # nobody says


async def test_a_contract_outlives_the_process(tmp_path: Path) -> None:
    async with served(tmp_path / "data") as client:
        await filled(client, "one")
    async with served(tmp_path / "data") as client:
        assert repr(A) in (await run(client, find(B)))["error"]["message"]
        assert (await run(client, find()))["status"] == "completed"


async def test_ten_thousand_records_of_one_upsert(client: httpx.AsyncClient) -> None:
    await filled(client, *(f"text {n}" for n in range(10_000)))
    assert repr(A) in (await run(client, find(B)))["error"]["message"]
    assert len((await run(client, find(top_k=10)))["outputs"]["hits"]) == 10


async def test_a_document_that_uses_one_index_with_two_models_is_warned_where_it_does(
    client: httpx.AsyncClient,
) -> None:
    both = fill()
    other = find(B)["steps"]
    both["steps"] += [{**other[0], "id": "q"}, {**other[1], "query": "{{ steps.q.vector }}"}]
    answer = await client.post("/v1/workflows/validate", json=both)
    assert answer.status_code == 200
    (warning,) = answer.json()["warnings"]
    assert warning["pointer"] == "/steps/4/query"
    assert warning["line"] == 1
    assert f"{B!r}" in warning["detail"]


async def test_a_plan_tells_what_its_indexes_would_not_take(client: httpx.AsyncClient) -> None:
    await filled(client, "one")

    async def warnings(workflow: dict[str, Any], **inputs: Any) -> list[dict[str, Any]]:
        body = {"workflow": workflow, "inputs": inputs}
        answer = await client.post("/v1/workflows/plan", json=body)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["warnings"]
        return found

    before = await calls(client, "describe")
    (warning,) = await warnings(find(B))
    assert warning["pointer"] in {"/steps/1/query", "/workflow/steps/1/query"}
    assert "holds vectors of 'words-a' with 8 dimensions" in warning["detail"]
    assert await warnings(find()) == []
    assert await warnings(find(B, index="{{ inputs.index }}"), index="other") == []
    assert len(await warnings(find(B, index="{{ inputs.index }}"), index="kb")) == 1
    assert len(await warnings(find("{{ inputs.model }}"), model=B)) == 1
    assert len(await warnings(find(embedding_model="{{ inputs.model }}"), model=B)) == 1
    assert len(await warnings(fill(B), texts=["x"])) == 1
    written = find(query=[1, 2, 3])
    assert "with 3 dimensions" in (await warnings(written))[0]["detail"]
    assert await warnings(find(B, condition="inputs.go == true"), go=False) == []
    assert await calls(client, "describe") == before
