"""A request that does not fit is told what to do, in words: no pattern, no word of the validator's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from app.api.openapi import openapi_document
from app.api.v1.parameters import choices_of, one_of
from app.api.wording import PATTERNS, body_errors
from app.dsl.model_errors import models_in
from app.services.run_events import EVENT_TYPES
from tests.api.harness import Api, problem
from tests.dsl.test_words import STOCK, WRONG
from tests.engines.harness import llm, workflow

UNKNOWN = "0197d6a0-7c1e-7000-8000-000000000000"
DOCUMENT = workflow(llm("a"))
METHODS = ("get", "post", "put", "patch", "delete")
PROBES = {"/healthz", "/readyz", "/metrics"}

BODIES: list[tuple[Any, str, str, str]] = [
    ([], "", "the body should be an object", "{…}"),
    ({}, "", "'workflow' is missing", "add 'workflow'"),
    ({"workflow": 5}, "/workflow", "'workflow' should be text or an object", "name of a registered workflow"),
    ({"workflow": "a/b"}, "/workflow", "'workflow' has characters", "letters, digits, spaces"),
    ({"workflow": "x", "version": "!"}, "/version", "'version' has characters", "begin with a letter"),
    ({"workflow": "x", "inptus": {}}, "/inptus", "unknown key 'inptus'", "did you mean 'inputs'?"),
    ({"workflow": "x", "inputs": []}, "/inputs", "'inputs' should be an object", "{…}"),
    (
        {"workflow": "x", "priority": "1"},
        "/priority",
        "'priority' should be a whole number",
        "without quotes",
    ),
    ({"workflow": "x", "labels": {"": "y"}}, "/labels/", "'' has characters", "begin and end with"),
    ({"workflow": "x", "labels": {"a": 1}}, "/labels/a", "'a' should be text", '"…"'),
    (
        {"workflow": "x", "webhook": {"url": "ftp://x.example"}},
        "/webhook/url",
        "'url' has characters",
        "http or https URL",
    ),
    (
        {"workflow": "x", "webhook": {"url": "http://x.example", "events": ["run.complete"]}},
        "/webhook/events/0",
        "item 0 should be 'run.completed'",
        "did you mean 'run.completed'?",
    ),
    ({"workflow": "x", "webhook": 5}, "/webhook", "'webhook' should be text or an object", "address"),
    ({"workflow": "x", "timeout_seconds": 0}, "/timeout_seconds", "should be greater than 0", ""),
]

PARAMETERS: list[tuple[str, str, str, str]] = [
    ("/v1/runs/7", "run_id", "'run_id' has characters", "as the submission gave it"),
    ("/v1/runs?limit=x", "limit", "'limit' should be a whole number", "digits"),
    ("/v1/runs?limit=101", "limit", "'limit' should be less than or equal to 100", ""),
    ("/v1/runs?status=failed,completd", "status", "'completd' is no value of 'status'", "mean 'completed'?"),
    ("/v1/runs?status=x", "status", "'x' is no value of 'status'", "'pending', 'running'"),
    ("/v1/runs?label=nocolon", "label", "'label' has characters", "name:value"),
    ("/v1/runs?cursor=%25", "cursor", "'cursor' has characters", "next_cursor"),
    ("/v1/runs?created_after=yesterday", "created_after", "write it as 2026-01-31T12:00:00Z", ""),
    (f"/v1/runs/{UNKNOWN}?include=outpts", "include", "'outpts' is no value", "did you mean 'outputs'?"),
    (f"/v1/runs/{UNKNOWN}/events?types=run.strated", "types", "'run.strated'", "'run.started'?"),
]


@pytest.mark.parametrize(("body", "pointer", "detail", "hint"), BODIES, ids=lambda it: str(it)[:40])
async def test_a_body_that_does_not_fit_says_what_to_do(
    client: httpx.AsyncClient, body: Any, pointer: str, detail: str, hint: str
) -> None:
    refused = problem(await client.post("/v1/runs", json=body), 422, "invalid_request")
    (error,) = refused.errors
    assert error.pointer == pointer
    assert detail in error.detail
    assert hint in (error.hint or "")
    assert error.detail in refused.detail
    assert hint in refused.detail


@pytest.mark.parametrize(("path", "name", "detail", "hint"), PARAMETERS)
async def test_a_parameter_that_does_not_fit_says_what_to_do(
    client: httpx.AsyncClient, path: str, name: str, detail: str, hint: str
) -> None:
    refused = problem(await client.get(path), 422, "invalid_request")
    (error,) = refused.errors
    assert error.parameter == name
    assert detail in error.detail
    assert hint in (error.hint or "")
    assert "^" not in refused.detail


async def test_a_missing_body_is_asked_for(client: httpx.AsyncClient) -> None:
    refused = problem(await client.post("/v1/runs"), 422, "invalid_request")
    assert refused.detail == "the body is missing; write {…}"


def patterns(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("pattern"), str):
            yield node["pattern"]
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from patterns(item)


def test_every_pattern_that_a_request_can_miss_is_known_in_words(service: Api) -> None:
    document = openapi_document(service.app)
    requests = [
        {key: operation.get(key) for key in ("parameters", "requestBody")}
        for item in document["paths"].values()
        for operation in item.values()
    ]
    sent = [
        schema
        for schema in document["components"]["schemas"].values()
        if schema.get("additionalProperties") is False
    ]
    wordless = {it for it in patterns([requests, sent]) if it not in PATTERNS and not choices_of(it)}
    assert not wordless, "say in app/api/wording.py what these patterns ask for"


def test_a_list_of_words_is_read_back_from_its_pattern() -> None:
    assert choices_of(one_of(EVENT_TYPES)) == EVENT_TYPES
    for other in PATTERNS:
        assert choices_of(other) == ()


def bodies_of(service: Api) -> dict[str, type[BaseModel]]:
    """The models of all bodies, by the path of their operation."""
    return {
        f"{min(route.methods or ())} {route.path}": model
        for route in service.app.routes
        if isinstance(route, APIRoute) and route.body_field is not None
        for model in models_in(route.body_field.field_info.annotation)
    }


async def test_no_body_is_refused_in_the_words_of_the_validator(service: Api) -> None:
    bodies = bodies_of(service)
    assert len(bodies) > 10
    said = []
    for path, model in bodies.items():
        for value in (*WRONG, *({key: wrong} for key in model.model_fields for wrong in WRONG)):
            try:
                model.model_validate(value)
            except ValidationError as error:
                found = body_errors(error.errors(include_url=False), value, model)
                places = [(one.pointer, one.detail) for one in found]
                assert len(places) == len(set(places)), path
                said += [f"{path}{one.pointer}: {one.detail} ({one.hint})" for one in found]
    assert len(said) > 500
    assert not [one for one in said if STOCK.search(one)]


# --- query parameters ---------------------------------------------------------------------------------


async def test_every_operation_refuses_a_query_parameter_that_it_does_not_have(service: Api) -> None:
    asked = 0
    for path, item in openapi_document(service.app)["paths"].items():
        if path in PROBES:
            continue
        for method in set(item) & set(METHODS):
            known = [it["name"] for it in item[method].get("parameters", ()) if it["in"] == "query"]
            answer = await service.client.request(method, f"{path}?surprise=1&surprise=2")
            (error,) = problem(answer, 422, "invalid_request").errors
            assert (error.parameter, error.location) == ("surprise", "query")
            assert error.detail == "unknown query parameter 'surprise'"
            assert all(repr(name) in (error.hint or "") for name in known)
            asked += 1
    assert asked >= 12


@pytest.mark.parametrize(
    ("query", "hint"),
    [("limt=5", "did you mean 'limit'?"), ("limit=5&Status=failed", "did you mean 'status'?")],
)
async def test_a_misspelt_filter_does_not_widen_a_list(
    client: httpx.AsyncClient, query: str, hint: str
) -> None:
    refused = problem(await client.get(f"/v1/runs?{query}"), 422, "invalid_request")
    assert hint in refused.detail


async def test_a_misspelt_wait_starts_no_run(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/runs?wiat=5", json={"workflow": DOCUMENT})
    assert "did you mean 'wait'?" in problem(answer, 422, "invalid_request").detail
    assert (await client.get("/v1/runs")).json()["data"] == []


@pytest.mark.parametrize("path", sorted(PROBES))
async def test_probes_take_whatever_platforms_append(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"{path}?collect[]=x")).status_code == 200


async def test_another_method_is_refused_as_such_whatever_its_query(client: httpx.AsyncClient) -> None:
    problem(await client.put("/v1/runs?surprise=1"), 405, "method_not_allowed")


# --- names that are not registered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/v1/runs", {"workflow": "rag-qaa"}, "'rag-qaa' is not registered; did you mean 'rag-qa'?"),
        (
            "POST",
            "/v1/runs",
            {"workflow": "rag-qa", "version": "1.1"},
            "version '1.1' of workflow 'rag-qa' is",
        ),
        ("POST", "/v1/runs", {"workflow": "zzz", "version": "1.1"}, "workflow 'zzz' is not registered; reg"),
        ("POST", "/v1/workflows/Rag-Qa/runs", {}, "did you mean 'rag-qa'?"),
        ("GET", "/v1/workflows/ragqa", None, "did you mean 'rag-qa'?"),
        ("GET", "/v1/workflows/rag-q/versions", None, "did you mean 'rag-qa'?"),
        ("GET", "/v1/workflows/rag-qa/versions/1.1", None, "did you mean '1.0'?"),
        ("DELETE", "/v1/workflows/rag-qas", None, "did you mean 'rag-qa'?"),
    ],
)
async def test_a_workflow_that_is_not_registered_is_told_from_the_one_that_is(
    client: httpx.AsyncClient, method: str, path: str, body: Any, said: str
) -> None:
    await client.post("/v1/workflows", json={**DOCUMENT, "name": "rag-qa", "version": "1.0"})
    answer = await client.request(method, path, json=body)
    assert said in problem(answer, 404, "workflow_not_found").detail
