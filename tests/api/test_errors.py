"""Every refusal is a problem that says what to do, and stores nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.engines.embedded import EngineLimits
from app.ports.errors import OrchestratorError, StoreUnavailable
from app.ports.runs import RunRow
from app.services.principal import Principal
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

UNKNOWN = "0197d6a0-7c1e-7000-8000-000000000000"
JSON = {"content-type": "application/json"}
YAML = {"content-type": "application/yaml"}
DOCUMENT = workflow(llm("a"))


MATRIX: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/nowhere", {}, 404, "not_found"),
    ("GET", "/v1/runs/", {}, 404, "not_found"),
    ("GET", "/v1/runs/7", {}, 422, "invalid_request"),
    ("GET", "/v1/runs/%00", {}, 422, "invalid_request"),
    ("GET", f"/v1/runs/{UNKNOWN}", {}, 404, "run_not_found"),
    ("GET", f"/v1/runs/{UNKNOWN}?include=secrets", {}, 422, "invalid_request"),
    ("GET", f"/v1/runs/{UNKNOWN}/events", {}, 404, "run_not_found"),
    ("GET", f"/v1/runs/{UNKNOWN}/events", {"headers": {"accept": "image/png"}}, 406, "not_acceptable"),
    ("GET", f"/v1/runs/{UNKNOWN}/events", {"headers": {"last-event-id": "x"}}, 422, "invalid_request"),
    ("GET", f"/v1/runs/{UNKNOWN}/events?after=-1", {}, 422, "invalid_request"),
    ("GET", f"/v1/runs/{UNKNOWN}/events?types=run.exploded", {}, 422, "invalid_request"),
    ("POST", f"/v1/runs/{UNKNOWN}/cancel", {}, 404, "run_not_found"),
    ("POST", f"/v1/runs/{UNKNOWN}/cancel", {"json": {"why": "x"}}, 422, "invalid_request"),
    ("GET", "/v1/runs?limit=0", {}, 422, "invalid_request"),
    ("GET", "/v1/runs?limit=101", {}, 422, "invalid_request"),
    ("GET", "/v1/runs?status=done", {}, 422, "invalid_request"),
    ("GET", "/v1/runs?label=nocolon", {}, 422, "invalid_request"),
    ("GET", "/v1/runs?created_after=yesterday", {}, 422, "invalid_request"),
    ("GET", "/v1/runs?created_after=0", {}, 422, "invalid_request"),
    ("GET", "/v1/runs?cursor=bm9wZQ", {}, 400, "invalid_cursor"),
    ("GET", "/v1/runs?cursor=%25%25", {}, 422, "invalid_request"),
    ("POST", "/v1/runs", {}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": []}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {}}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {"workflow": "x", "webhook": "y"}}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {"workflow": "x", "priority": "1"}}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {"workflow": "x", "timeout_seconds": 0}}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {"workflow": "x", "labels": {"": "y"}}}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {"workflow": DOCUMENT, "version": "1"}}, 422, "invalid_request"),
    ("POST", "/v1/runs", {"json": {"workflow": "unknown"}}, 404, "workflow_not_found"),
    ("POST", "/v1/runs", {"json": {"workflow": {}}}, 422, "definition_invalid"),
    ("POST", "/v1/runs?wait=61", {"json": {"workflow": DOCUMENT}}, 422, "invalid_request"),
    ("POST", "/v1/runs?wait=soon", {"json": {"workflow": DOCUMENT}}, 422, "invalid_request"),
    (
        "POST",
        "/v1/runs",
        {"json": {"workflow": DOCUMENT}, "headers": {"prefer": "wait=soon"}},
        400,
        "malformed_request",
    ),
    (
        "POST",
        "/v1/runs",
        {"json": {"workflow": DOCUMENT}, "headers": {"idempotency-key": "ä".encode("latin-1")}},
        422,
        "invalid_request",
    ),
    (
        "POST",
        "/v1/runs",
        {"json": {"workflow": DOCUMENT}, "headers": {"idempotency-key": "k" * 256}},
        422,
        "invalid_request",
    ),
    ("POST", "/v1/runs", {"content": b"{}", "headers": YAML}, 415, "unsupported_media_type"),
    ("POST", "/v1/runs", {"content": b"{}"}, 415, "unsupported_media_type"),
    (
        "POST",
        "/v1/runs",
        {"content": b"{}", "headers": {**JSON, "content-encoding": "gzip"}},
        415,
        "unsupported_media_type",
    ),
    ("POST", "/v1/runs", {"content": b"{", "headers": JSON}, 400, "malformed_body"),
    ("POST", "/v1/runs", {"content": b" " * 3000, "headers": JSON}, 413, "content_too_large"),
    ("POST", "/v1/runs", {"content": b"{}", "headers": {**JSON, "content-length": "x"}}, 400, "bad_request"),
    ("POST", "/v1/workflows", {"content": b"{}"}, 415, "unsupported_media_type"),
    ("POST", "/v1/workflows", {"content": b"name: [", "headers": YAML}, 422, "definition_invalid"),
    ("POST", "/v1/workflows", {"content": b"\xff", "headers": YAML}, 422, "definition_invalid"),
    ("POST", "/v1/workflows", {"content": b"{", "headers": JSON}, 422, "definition_invalid"),
    ("POST", "/v1/workflows", {"content": b"", "headers": JSON}, 422, "definition_invalid"),
    ("POST", "/v1/workflows/validate", {"content": b"steps: 3", "headers": YAML}, 422, "definition_invalid"),
    ("POST", "/v1/workflows/unknown/runs", {"json": {}}, 404, "workflow_not_found"),
    ("POST", "/v1/workflows/%20/runs", {"json": {}}, 422, "invalid_request"),
    ("GET", "/v1/workflows/unknown", {}, 404, "workflow_not_found"),
    ("GET", "/v1/workflows/unknown/versions", {}, 404, "workflow_not_found"),
    ("GET", "/v1/workflows/unknown/versions/1", {}, 404, "workflow_not_found"),
    ("GET", "/v1/workflows/unknown/openapi.json", {}, 404, "workflow_not_found"),
    ("GET", "/v1/workflows?cursor=bm9wZQ", {}, 400, "invalid_cursor"),
    ("DELETE", "/v1/workflows/unknown", {}, 404, "workflow_not_found"),
]


@pytest.mark.parametrize("bad", MATRIX, ids=lambda bad: f"{bad[0]} {bad[1]} {bad[4]}")
async def test_a_bad_request_gets_its_problem_and_stores_nothing(
    bad: tuple[str, str, dict[str, Any], int, str],
) -> None:
    method, path, request, status, code = bad
    async with api(max_body_bytes=2048) as service:
        answer = await service.client.request(method, path, **request)
        assert problem(answer, status, code).detail
        assert "Traceback" not in answer.text
        assert (await service.client.get("/v1/runs")).json()["data"] == []
        assert (await service.client.get("/v1/workflows")).json()["data"] == []


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/runs", "GET, POST"),
        ("/v1/workflows", "GET, POST"),
        ("/v1/workflows/x", "DELETE, GET"),
        ("/v1/workflows/validate", "POST"),
        (f"/v1/runs/{UNKNOWN}", "GET"),
        (f"/v1/runs/{UNKNOWN}/cancel", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/openapi.json", "GET"),
    ],
)
async def test_another_method_is_refused_with_all_that_are_allowed(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    for method in ("PUT", "PATCH", "TRACE", "OPTIONS"):
        answer = await client.request(method, path)
        problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


async def test_a_chunked_body_beyond_the_limit_is_refused() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async with api(max_body_bytes=2048) as service:
        answer = await service.client.post("/v1/runs", content=chunks(), headers=JSON)
        problem(answer, 413, "content_too_large")


async def test_a_viewer_may_not_submit() -> None:
    viewer = Principal(tenant="t", subject="v", roles=frozenset({"viewer"}))
    async with api(principal=viewer) as service:
        answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT})
        assert "runs:submit" in problem(answer, 403, "permission_denied").detail
        assert (await service.client.get("/v1/runs")).status_code == 200


async def test_a_full_queue_says_when_to_come_back() -> None:
    async with api(limits=EngineLimits(max_active_runs=0, max_pending_runs=0)) as service:
        answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT})
        problem(answer, 429, "too_many_runs")
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_draining_service_takes_no_runs(service: Api) -> None:
    await service.bench.engine.drain(0.0)
    answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT})
    problem(answer, 503, "draining")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StoreUnavailable("/data/secret.db: disk full"), 503, "storage_unavailable"),
        (OrchestratorError("internal detail"), 500, "internal_server_error"),
        (RuntimeError("internal detail"), 500, "internal_server_error"),
    ],
)
async def test_a_fault_tells_nothing_of_the_inside(
    service: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, code: str
) -> None:
    class BrokenRuns:
        async def get(self, tenant: str, run_id: str) -> RunRow | None:
            raise error

    monkeypatch.setattr(service.bench.store, "runs", BrokenRuns())
    answer = await service.client.get(f"/v1/runs/{UNKNOWN}")
    problem(answer, status, code)
    assert "secret" not in answer.text
    assert "detail of" not in answer.text
    assert "internal detail" not in answer.text


async def test_every_answer_has_its_security_headers_and_request_id(client: httpx.AsyncClient) -> None:
    for path in ("/v1/runs", "/nowhere", "/healthz"):
        answer = await client.get(path, headers={"x-request-id": "trace-7"})
        assert answer.headers["x-request-id"] == "trace-7"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


async def test_a_request_id_that_is_no_token_is_replaced(client: httpx.AsyncClient) -> None:
    for bad in ("a b", "x" * 129, "<script>", ""):
        answer = await client.get("/healthz", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"] != bad
        assert len(answer.headers["x-request-id"]) == 36


async def test_a_body_that_may_be_absent_may_not_be_null(client: httpx.AsyncClient) -> None:
    run = (await client.post("/v1/runs", json={"workflow": workflow(llm("a"))})).json()
    headers = {"content-type": "application/json"}
    answer = await client.post(f"/v1/runs/{run['id']}/cancel", content=b"null", headers=headers)
    refused = problem(answer, 422, "invalid_request")
    assert refused.errors[0].hint == "send an object, or no body at all"
