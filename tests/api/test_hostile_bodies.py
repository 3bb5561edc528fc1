"""Bodies that parsers disagree about, or choke on, are a 400 with the place of the fault."""

from __future__ import annotations

import httpx
import pytest

from tests.api.harness import Api, problem
from tests.engines.harness import llm, workflow

HOSTILE = {
    "NaN": b'{"workflow": "x", "inputs": {"a": NaN}}',
    "Infinity": b'{"workflow": "x", "inputs": {"a": Infinity}}',
    "minus Infinity": b'{"workflow": "x", "inputs": {"a": -Infinity}}',
    "a number beyond doubles": b'{"workflow": "x", "inputs": {"a": 1e999}}',
    "an integer beyond 64 bits": b'{"workflow": "x", "inputs": {"a": 123456789012345678901234567890}}',
    "a name twice": b'{"workflow": "x", "workflow": "y"}',
    "a nested name twice": b'{"workflow": "x", "inputs": {"a": 1, "a": 2}}',
    "a name twice, once escaped": b'{"workflow": "x", "inputs": {"a": 1, "\\u0061": 2}}',
    "NUL": b'{"workflow": "x", "inputs": {"a": "\\u0000"}}',
    "a raw NUL": b'{"workflow": "x\x00"}',
    "a lone surrogate": b'{"workflow": "x", "inputs": {"a": "\\ud800"}}',
    "not UTF-8": b'{"workflow": "\xff"}',
    "UTF-16": '{"workflow": "x"}'.encode("utf-16"),
    "cut short": b'{"workflow": "x"',
    "two values": b'{"workflow": "x"} {}',
    "a comment": b'{"workflow": "x"} // done',
    "deep lists": b'{"workflow": "x", "inputs": {"a": ' + b"[" * 100 + b"]" * 100 + b"}}",
    "deeper than a stack": b"[" * 100_000,
    "deep objects": b'{"workflow": "x", "inputs": ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_body_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/v1/runs", content=body, headers={"content-type": "application/json"})
    refused = problem(answer, 400, "malformed_body")
    assert refused.errors[0].line
    assert refused.errors[0].detail


async def test_problems_of_an_inline_definition_stand_where_its_author_wrote_them(
    client: httpx.AsyncClient,
) -> None:
    body = b"""{
  "inputs": {},
  "workflow": {
    "name": "x",
    "steps": [
      {"id": "a", "type": "llm", "provider": "fake", "model": "m", "prompt": "p", "depends_on": ["b"]}
    ]
  }
}"""
    answer = await client.post("/v1/runs", content=body, headers={"content-type": "application/json"})
    refused = problem(answer, 422, "definition_invalid")
    first = refused.errors[0]
    assert first.pointer is not None
    assert first.pointer.startswith("/workflow/steps/0/depends_on")
    assert first.line == 6
    assert body.splitlines()[5][(first.column or 0) - 1 :].startswith(b'"')


async def test_problems_of_inputs_stand_where_their_author_wrote_them(client: httpx.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    registered = await client.post("/v1/workflows", json=workflow(llm("a"), inputs=schema))
    assert registered.status_code == 201
    answer = await client.post(
        "/v1/workflows/test/runs",
        content=b'{\n "inputs": {\n  "q": 7}}',
        headers={"content-type": "application/json"},
    )
    refused = problem(answer, 422, "inputs_invalid")
    assert [(error.pointer, error.line, error.column) for error in refused.errors] == [("/inputs/q", 3, 3)]


async def test_a_body_with_a_charset_and_a_json_suffix_is_json(service: Api) -> None:
    body = b'{"workflow": "unknown"}'
    for media_type in ("application/json; charset=utf-8", "application/vnd.example+json", "APPLICATION/JSON"):
        answer = await service.client.post("/v1/runs", content=body, headers={"content-type": media_type})
        problem(answer, 404, "workflow_not_found")
