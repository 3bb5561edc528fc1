"""Registered workflows: immutable versions, readable by name."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import jsonschema_rs
import pytest

from app.api.v1.schemas.workflows import RegisteredWorkflow, ValidWorkflow, WorkflowList
from app.ports.models import CallContext, ChatRequest
from tests.api.harness import api, problem
from tests.engines.harness import llm, workflow

SCHEMA: dict[str, Any] = {"type": "object", "required": ["q"], "properties": {"q": {"type": "string"}}}
DOCUMENT = workflow(llm("a", "{{ inputs.q }}"), inputs=SCHEMA, version="1", description="Ask")
YAML = """\
name: test
steps:
  - {id: a, type: llm, provider: own, model: m, prompt: "{{ inputs.q }}",
     retry: {max_attempts: 3, initial_delay_ms: 1, jitter: none}}
inputs: {type: object, required: [q], properties: {q: {type: string}}}
version: "1"
description: Ask
"""


async def test_a_version_cannot_be_replaced(client: httpx.AsyncClient) -> None:
    await client.post("/v1/workflows", json=DOCUMENT)
    other = {**DOCUMENT, "description": "Changed"}
    problem(await client.post("/v1/workflows", json=other), 409, "version_taken")
    assert (await client.get("/v1/workflows/test")).json()["description"] == "Ask"


async def test_every_problem_of_a_document_is_listed_with_its_place(client: httpx.AsyncClient) -> None:
    text = "name: x\nsteps:\n  - {id: a, type: embed, provider: fake, model: m}\n  - {id: b, type: nope}\n"
    for path in ("/v1/workflows", "/v1/workflows/validate"):
        answer = await client.post(path, content=text, headers={"content-type": "text/yaml"})
        refused = problem(answer, 422, "definition_invalid")
        assert len(refused.errors) >= 2
        assert {error.line for error in refused.errors} == {3, 4}
        assert all(error.hint and error.column for error in refused.errors)


@pytest.mark.parametrize("media_type", ["application/yaml", "application/x-yaml", "text/yaml; charset=utf-8"])
async def test_yaml_and_json_are_one_document(client: httpx.AsyncClient, media_type: str) -> None:
    first = await client.post("/v1/workflows", json=DOCUMENT)
    assert first.status_code == 201
    again = await client.post("/v1/workflows", content=YAML, headers={"content-type": media_type})
    assert (again.status_code, again.headers["etag"]) == (200, first.headers["etag"])
    assert again.content == first.content
    assert RegisteredWorkflow.model_validate_json(again.content).inputs_schema == SCHEMA


async def test_a_provider_that_is_not_configured_is_a_warning_and_no_obstacle(
    client: httpx.AsyncClient,
) -> None:
    text = YAML.replace("provider: own", "provider: onw")
    warning = {
        "pointer": "/steps/0/provider",
        "line": 3,
        "column": 24,
        "detail": "provider 'onw' is not configured",
        "hint": "did you mean 'own'?",
    }
    for path, status in (("/v1/workflows/validate", 200), ("/v1/workflows", 201), ("/v1/workflows", 200)):
        answer = await client.post(path, content=text, headers={"content-type": "text/yaml"})
        assert (answer.status_code, answer.json()["warnings"]) == (status, [warning])
    assert "warnings" not in (await client.get("/v1/workflows/test")).json()


async def test_a_valid_document_is_not_stored_by_validating_it(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/workflows/validate", content=YAML, headers={"content-type": "application/yaml"}
    )
    assert ValidWorkflow.model_validate_json(answer.content).steps[0].id == "a"
    assert (await client.get("/v1/workflows")).json()["data"] == []


async def test_versions_are_listed_newest_first_and_names_once(client: httpx.AsyncClient) -> None:
    for version in ("1", "2", "3"):
        await client.post("/v1/workflows", json={**DOCUMENT, "version": version})
    await client.post("/v1/workflows", json={**DOCUMENT, "name": "A name, 2".replace(",", ".")})
    first = await client.get("/v1/workflows/test/versions?limit=2")
    page = WorkflowList.model_validate_json(first.content)
    rest = await client.get(f"/v1/workflows/test/versions?limit=2&cursor={page.next_cursor}")
    versions = [(one.version, one.revision) for one in page.data]
    versions += [(one["version"], one["revision"]) for one in rest.json()["data"]]
    assert versions == [("3", 3), ("2", 2), ("1", 1)]
    assert 'rel="next"' in first.headers["link"]
    names = (await client.get("/v1/workflows?limit=1")).json()
    more = (await client.get(f"/v1/workflows?limit=1&cursor={names['next_cursor']}")).json()
    listed = [one["name"] for one in names["data"] + more["data"]]
    assert listed == ["A name. 2", "test"]
    assert (await client.get(names["data"][0]["links"]["self"])).status_code == 200


async def test_a_version_is_read_by_its_location_and_has_a_tag(client: httpx.AsyncClient) -> None:
    made = await client.post("/v1/workflows", json=DOCUMENT)
    read = await client.get(made.headers["location"])
    assert {**read.json(), "warnings": []} == made.json()
    assert read.headers["etag"] == made.headers["etag"]
    unchanged = await client.get("/v1/workflows/test", headers={"if-none-match": read.headers["etag"]})
    assert unchanged.status_code == 304


async def test_a_workflow_with_active_runs_cannot_be_deleted() -> None:
    async def never(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    async with api(script=never) as service:
        await service.client.post("/v1/workflows", json=DOCUMENT)
        run = await service.client.post("/v1/workflows/test/runs", json={"inputs": {"q": "?"}})
        problem(await service.client.delete("/v1/workflows/test"), 409, "workflow_in_use")
        await service.client.post(run.json()["links"]["cancel"])
        await service.bench.finish(run.json()["id"])
        assert (await service.client.delete("/v1/workflows/test")).status_code == 204
        problem(await service.client.get("/v1/workflows/test"), 404, "workflow_not_found")
        assert (await service.client.get(run.json()["links"]["self"])).json()["workflow"] == "test"


async def test_a_delete_with_a_stale_tag_is_refused(client: httpx.AsyncClient) -> None:
    tag = (await client.post("/v1/workflows", json=DOCUMENT)).headers["etag"]
    await client.post("/v1/workflows", json={**DOCUMENT, "version": "2"})
    stale = await client.delete("/v1/workflows/test", headers={"if-match": tag})
    problem(stale, 412, "version_mismatch")
    tag = (await client.get("/v1/workflows/test")).headers["etag"]
    assert (await client.delete("/v1/workflows/test", headers={"if-match": tag})).status_code == 204


async def test_its_own_openapi_document_shows_its_inputs(client: httpx.AsyncClient) -> None:
    await client.post("/v1/workflows", json={**DOCUMENT, "name": "rag qa"})
    document = (await client.get("/v1/workflows/rag%20qa/openapi.json")).json()
    (path,) = document["paths"]
    assert path == "/v1/workflows/rag%20qa/runs"
    schema = {"$ref": "#/components/schemas/RunWorkflow", "components": document["components"]}
    accepts = jsonschema_rs.Draft202012Validator(schema).is_valid
    assert accepts({"inputs": {"q": "?"}})
    assert not accepts({"inputs": {"q": 7}})
    assert not accepts({})
    assert (await client.post(f"{path}?wait=9", json={"inputs": {"q": "?"}})).status_code == 200
