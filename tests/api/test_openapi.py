"""The document is complete: names, tags, examples that fit, refusals, a permission on every operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import jsonschema_rs
import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from app.api.auth import Requires
from app.api.negotiation import preferred_wait, stream_type
from app.api.problems import PROBLEM_JSON
from app.api.v1.parameters import one_of
from app.ports.runs import RunStatus
from app.services.errors import MalformedRequest
from tests.api.harness import Api

WITHOUT_BODY = {"204", "304"}


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/openapi.json")).json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_every_operation_but_the_probes_asks_for_a_permission(service: Api) -> None:
    def asks(dependant: Dependant) -> bool:
        return isinstance(dependant.call, Requires) or any(map(asks, dependant.dependencies))

    open_paths = {
        route.path
        for route in service.app.routes
        if isinstance(route, APIRoute) and not asks(route.dependant)
    }
    assert open_paths == {"/healthz", "/readyz", "/metrics", "/openapi.json"}


async def test_it_is_what_openapi_3_1_says_it_is(document: dict[str, Any]) -> None:
    assert not [error.message for error in OPENAPI_31_VALIDATOR.iter_errors(document)]


async def test_a_body_that_may_be_absent_is_never_null(document: dict[str, Any]) -> None:
    bodies = [it["requestBody"] for _, _, it in operations(document) if "requestBody" in it]
    absent = [body for body in bodies if not body.get("required")]
    assert absent
    for body in absent:
        assert list(body["content"]["application/json"]["schema"]) == ["$ref"]


async def test_operations_read_well(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    for _, _, operation in operations(document):
        assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"])
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"][0] in {tag["name"] for tag in document["tags"]}
    assert document["openapi"].startswith("3.1")


async def test_every_answer_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    checked = 0
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer["description"]
            if status in WITHOUT_BODY:
                assert "content" not in answer
                continue
            for media_type, content in answer["content"].items():
                assert media_type == PROBLEM_JSON or int(status) < 400 or path in ("/healthz", "/readyz")
                if "schema" in content and path != "/v1/workflows/{name}/openapi.json":
                    schema = {**content["schema"], "components": document["components"]}
                    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(
                        content["example"]
                    )
                    checked += 1
    assert checked > 50


async def test_every_request_body_has_an_example_that_fits_its_schema(document: dict[str, Any]) -> None:
    for _, _, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            schema = {**content["schema"], "components": document["components"]}
            body = document["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {})
            examples = [content["example"]] if "example" in content else body.get("examples")
            if examples is None:
                (reference,) = [one["$ref"] for one in schema["anyOf"] if "$ref" in one]
                examples = document["components"]["schemas"][reference.rpartition("/")[2]]["examples"]
            for example in examples:
                jsonschema_rs.Draft202012Validator(schema).validate(example)


READING = ("/validate", "/plan", "/fixture")
"""How the paths of those end that are posted to and change nothing."""


async def test_every_operation_under_v1_documents_its_refusals(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if not path.startswith("/v1"):
            continue
        refusals = {int(status) for status in operation["responses"] if int(status) >= 400}
        assert {403, 422} <= refusals
        if "requestBody" in operation:
            assert {400, 413, 415} <= refusals
        if "{" in path:
            assert 404 in refusals
        if method == "post" and not path.endswith(READING):
            assert {409, 503} <= refusals
            assert "Idempotency-Key" in {parameter["name"] for parameter in operation["parameters"]}


def test_a_list_of_words_takes_these_words_only() -> None:
    pattern = one_of(get_args(RunStatus))
    for good in ("failed", "failed,timed_out", "pending,pending"):
        assert re.fullmatch(pattern, good)
    for bad in ("", ",", "failed,", "fail", "failed, pending", "timedXout"):
        assert not re.fullmatch(pattern, bad)


@pytest.mark.parametrize("prefer", ["wait=", "wait=x", "wait=-1", "wait=1.5", "respond-async, wait=²"])
def test_a_wait_that_is_no_number_is_refused(prefer: str) -> None:
    with pytest.raises(MalformedRequest):
        preferred_wait(prefer)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("", None),
        ("return=minimal", None),
        ("wait=0", 0),
        ("wait=30", 30),
        ("WAIT = 30", 30),
        ('wait="30"; foo', 30),
        ("respond-async, wait=7", 7),
        ("wait=99999999999999999999", 60),
        ("await=3", None),
    ],
)
def test_a_preference_to_wait_is_read_and_capped(prefer: str | None, seconds: int | None) -> None:
    assert preferred_wait(prefer) == seconds


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/x-ndjson, text/event-stream;q=0.5", "application/x-ndjson"),
        ("application/*, text/*;q=0.1", "application/x-ndjson"),
        ("text/event-stream;q=0, */*", "application/x-ndjson"),
        ("text/html", None),
        ("text/event-stream;q=0", None),
        ("*/*;q=nan0", None),
    ],
)
def test_the_form_of_a_stream_is_negotiated(accept: str | None, media_type: str | None) -> None:
    assert stream_type(accept) == media_type
