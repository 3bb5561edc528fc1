"""The JSON Schema of documents over HTTP."""

from __future__ import annotations

import httpx
import jsonschema_rs
import orjson

from app.dsl.schema import document_schema
from app.steps.registry import STEP_KINDS
from tests.api.harness import problem

WHERE = "/v1/schemas/workflow.json"


async def test_a_schema_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    problem(await client.get("/v1/schemas/workflows.json"), 404, "not_found")
    problem(await client.get(WHERE, params={"kind": "llm"}), 422, "invalid_request")


async def test_what_is_served_checks_documents(client: httpx.AsyncClient) -> None:
    answer = await client.get(WHERE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == orjson.loads(orjson.dumps(document_schema(STEP_KINDS)))
    validator = jsonschema_rs.Draft202012Validator(answer.json())
    step = {"id": "a", "type": "llm", "provider": "echo", "model": "any", "prompt": "hi"}
    assert validator.is_valid({"name": "x", "steps": [step]})
    assert not validator.is_valid({"name": "x", "steps": [{**step, "temperature": "hot"}]})
    assert not validator.is_valid({"name": "x", "stepz": [step]})


async def test_who_has_it_already_is_told_so(client: httpx.AsyncClient) -> None:
    first = await client.get(WHERE)
    again = await client.get(WHERE, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (await client.get(WHERE, headers={"if-none-match": '"other"'})).status_code == 200
