"""Many runs in one request: all of them, or none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from app.engines.embedded import EngineLimits
from app.ports.models import CallContext, ChatRequest
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

BATCH = "/v1/runs:batch"
LINES = {"content-type": "application/x-ndjson"}
KEY = {"idempotency-key": "monthly invoices"}
INPUTS = {
    "type": "object",
    "required": ["x"],
    "properties": {"x": {"type": "integer"}, "y": {"type": "integer", "default": 7}},
}
ADD = {
    "name": "add",
    "inputs": INPUTS,
    "steps": [{"id": "sum", "type": "transform", "expression": "inputs.x + inputs.y"}],
    "outputs": {"sum": "{{ steps.sum.result }}"},
}
ENDS_WITHIN = 20.0


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"inputs": {"x": x}} for x in range(count)]


async def count_of_runs(client: httpx.AsyncClient, query: str = "") -> int:
    found = 0
    path: str | None = f"/v1/runs?limit=100{query}"
    while path:
        page = await client.get(path)
        found += len(page.json()["data"])
        path = page.links["next"]["url"] if "next" in page.links else None
    return found


async def ended(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + ENDS_WITHIN
    while True:
        run: dict[str, Any] = (await client.get(f"/v1/runs/{run_id}")).json()
        if run["finished_at"] is not None:
            return run
        assert time.monotonic() < deadline, run
        await asyncio.sleep(0.01)


@pytest.fixture
async def idle() -> AsyncIterator[Api]:
    """A service whose runs wait: the only place is taken."""

    async def never(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    limits = EngineLimits(max_active_runs=1, max_pending_runs=10)
    async with api(script=never, limits=limits) as service:
        await service.client.post("/v1/runs", json={"workflow": workflow(llm("a"))})
        await service.bench.chat.started.wait()
        yield service


class TestRefusals:
    async def test_one_wrong_input_refuses_all_and_every_one_is_pointed_at(
        self, client: httpx.AsyncClient
    ) -> None:
        runs = [{"inputs": {"x": 1}}, {"inputs": {"x": "two"}}, {"inputs": {}}, {"inputs": {"x": 4}}]
        answer = await client.post(BATCH, json={"workflow": ADD, "runs": runs})
        found = problem(answer, 422, "inputs_invalid")
        assert [one.pointer for one in found.errors] == ["/runs/1/inputs/x", "/runs/2/inputs"]
        assert [one.line for one in found.errors] == [1, 1]
        assert await count_of_runs(client) == 0

    async def test_a_wrong_line_is_told_by_its_number(self, client: httpx.AsyncClient) -> None:
        await client.post("/v1/workflows", json=ADD)
        body = b'{"x": 1}\n\n{"x": "two"}\n'
        answer = await client.post(f"{BATCH}?workflow=add", content=body, headers=LINES)
        (one,) = problem(answer, 422, "inputs_invalid").errors
        assert (one.pointer, one.line) == ("/runs/1/inputs/x", 3)
        assert await count_of_runs(client) == 0

    async def test_a_webhook_of_one_run_is_refused_and_not_forgotten(self, client: httpx.AsyncClient) -> None:
        runs = [{"inputs": {"x": 1}, "webhook": "https://example.com/hook"}]
        answer = await client.post(BATCH, json={"workflow": ADD, "runs": runs})
        (one,) = problem(answer, 422, "invalid_request").errors
        assert one.pointer == "/runs/0/webhook"
        assert await count_of_runs(client) == 0

    @pytest.mark.parametrize(
        ("line", "status", "code"),
        [
            (b'{"x": 1', 400, "malformed_body"),
            (b'{"x": 1, "x": 2}', 400, "malformed_body"),
            (b"[1]", 422, "invalid_request"),
        ],
    )
    async def test_a_line_that_is_no_strict_object_is_refused(
        self, client: httpx.AsyncClient, line: bytes, status: int, code: str
    ) -> None:
        body = b'{"x": 1}\n' + line
        answer = await client.post(f"{BATCH}?workflow=add", content=body, headers=LINES)
        (one,) = problem(answer, status, code).errors
        assert one.line == 2
        assert one.pointer is not None
        assert one.pointer.startswith("/runs/1/inputs")

    async def test_every_wrong_line_is_listed_with_its_number(self, client: httpx.AsyncClient) -> None:
        lines = [b'{"x": 1}', b"nope", b"", b"[1]", b'{"x": 2}', b'{"x": 1, "x": 2}']
        answer = await client.post(f"{BATCH}?workflow=add", content=b"\n".join(lines), headers=LINES)
        found = problem(answer, 400, "malformed_body")
        assert [(one.pointer, one.line) for one in found.errors] == [
            ("/runs/1/inputs", 2),
            ("/runs/2/inputs", 4),
            ("/runs/4/inputs/x", 6),
        ]
        assert found.errors[1].detail == "line 4 should be an object and is a list"
        assert "and 2 more" in found.detail

    async def test_a_hundred_wrong_lines_are_listed_at_most(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(f"{BATCH}?workflow=add", content=b"{\n7\n" * 200, headers=LINES)
        found = problem(answer, 400, "malformed_body")
        assert [one.line for one in found.errors] == list(range(1, 101))

    @pytest.mark.parametrize(
        ("body", "pointer"),
        [
            ({"workflow": ADD}, ""),
            ({"workflow": ADD, "runs": []}, "/runs"),
            ({"workflow": ADD, "runs": [{"inputs": {}}, {"input": {}}]}, "/runs/1/input"),
            ({"workflow": ADD, "runs": [{"priority": 1000}]}, "/runs/0/priority"),
            ({"workflow": ADD, "version": "1", "runs": [{}]}, ""),
        ],
    )
    async def test_a_body_that_does_not_fit_is_refused_at_its_place(
        self, client: httpx.AsyncClient, body: dict[str, Any], pointer: str
    ) -> None:
        (one,) = problem(await client.post(BATCH, json=body), 422, "invalid_request").errors
        assert one.pointer == pointer

    async def test_a_definition_with_problems_is_pointed_at(self, client: httpx.AsyncClient) -> None:
        answer = await client.post(BATCH, json={"workflow": {"name": "x", "steps": []}, "runs": [{}]})
        found = problem(answer, 422, "definition_invalid")
        assert found.errors[0].pointer == "/workflow/steps"

    async def test_more_than_ten_thousand_lines_are_refused(self, client: httpx.AsyncClient) -> None:
        await client.post("/v1/workflows", json=ADD)
        answer = await client.post(f"{BATCH}?workflow=add", content=b"{}\n" * 10_001, headers=LINES)
        assert "10,000" in problem(answer, 422, "invalid_request").errors[0].detail

    async def test_lines_need_a_workflow_and_an_object_takes_none(self, client: httpx.AsyncClient) -> None:
        problem(await client.post(BATCH, content=b"{}", headers=LINES), 422, "invalid_request")
        answer = await client.post(f"{BATCH}?workflow=add", json={"workflow": ADD, "runs": [{}]})
        problem(answer, 422, "invalid_request")
        answer = await client.post(f"{BATCH}?workflow=add", content=b"{}", headers=LINES)
        problem(answer, 404, "workflow_not_found")
        answer = await client.post(BATCH, content=b"{}", headers={"content-type": "text/csv"})
        problem(answer, 415, "unsupported_media_type")

    async def test_what_does_not_fit_into_the_queue_is_refused_whole(self, idle: Api) -> None:
        answer = await idle.client.post(BATCH, json={"workflow": ADD, "runs": numbers(11)})
        problem(answer, 429, "too_many_runs")
        assert (await idle.client.post(BATCH, json={"workflow": ADD, "runs": numbers(6)})).status_code == 202
        answer = await idle.client.post(BATCH, json={"workflow": ADD, "runs": numbers(5)})
        problem(answer, 429, "too_many_runs")
        assert answer.headers["retry-after"]
        assert await count_of_runs(idle.client) == 1 + 6
        assert (await idle.client.post(BATCH, json={"workflow": ADD, "runs": numbers(4)})).status_code == 202

    async def test_a_workflow_that_rejects_runs_too_many_rejects_the_batch(self) -> None:
        document = {**ADD, "concurrency": {"key": "{{ inputs.x % 2 }}", "limit": 2, "on_limit": "reject"}}
        async with api() as service:
            answer = await service.client.post(BATCH, json={"workflow": document, "runs": numbers(5)})
            problem(answer, 429, "too_many_runs")
            assert await count_of_runs(service.client) == 0
            assert service.bench.engine.stats().queued == 0
            answer = await service.client.post(BATCH, json={"workflow": document, "runs": numbers(4)})
            assert answer.status_code == 202


class TestAccepted:
    async def test_runs_come_in_the_order_of_the_request_and_bear_the_batch(
        self, client: httpx.AsyncClient
    ) -> None:
        runs = [{"inputs": {"x": 1}, "labels": {"team": "own"}, "priority": 3}, {"inputs": {"x": 2}}]
        body = {"workflow": ADD, "runs": runs, "labels": {"team": "all", "month": "may"}}
        answer = await client.post(BATCH, json=body)
        assert answer.status_code == 202, answer.text
        accepted = answer.json()
        assert accepted["count"] == 2
        first, second = [await ended(client, run_id) for run_id in accepted["run_ids"]]
        assert (first["outputs"], second["outputs"]) == ({"sum": 8}, {"sum": 9})
        assert first["labels"] == {"team": "own", "month": "may", "batch": accepted["batch"]}
        assert (first["priority"], second["priority"]) == (3, 0)
        listed = (await client.get(accepted["links"]["runs"])).json()["data"]
        assert {run["id"] for run in listed} == set(accepted["run_ids"])
        assert answer.headers["location"] == accepted["links"]["runs"]

    async def test_lines_are_the_inputs_of_a_registered_version(self, client: httpx.AsyncClient) -> None:
        await client.post("/v1/workflows", json={**ADD, "version": "1"})
        await client.post("/v1/workflows", json={**ADD, "version": "2"})
        body = b'{"x": 1}\r\n\n{"x": 2, "y": 1}'
        answer = await client.post(f"{BATCH}?workflow=add&version=1", content=body, headers=LINES)
        assert answer.status_code == 202, answer.text
        runs = [await ended(client, run_id) for run_id in answer.json()["run_ids"]]
        assert [(run["version"], run["outputs"]["sum"]) for run in runs] == [("1", 8), ("1", 3)]

    async def test_every_run_ends_under_a_limit_of_its_workflow(self) -> None:
        document = {**ADD, "concurrency": {"key": "{{ inputs.x % 2 }}", "limit": 1}}
        async with api() as service:
            answer = await service.client.post(BATCH, json={"workflow": document, "runs": numbers(6)})
            assert answer.status_code == 202, answer.text
            runs = [await ended(service.client, run_id) for run_id in answer.json()["run_ids"]]
            assert {run["status"] for run in runs} == {"completed"}

    async def test_ten_thousand_runs_leave_the_loop_to_others(self) -> None:
        """Counted, not timed: others are answered again and again before the batch is."""
        async with api(limits=EngineLimits(max_active_runs=1)) as service:
            answered = 0
            over = asyncio.Event()

            async def look() -> None:
                nonlocal answered
                while not over.is_set():
                    assert (await service.client.get("/healthz")).status_code == 200
                    answered += 1
                    await asyncio.sleep(0)

            body = orjson.dumps({"workflow": ADD, "runs": numbers(10_000)})
            watch = asyncio.create_task(look())
            answer = await service.client.post(
                BATCH, content=body, headers={"content-type": "application/json"}
            )
            over.set()
            await watch
            assert answer.status_code == 202, answer.text
            assert len(set(answer.json()["run_ids"])) == 10_000
            assert answered >= 3


class TestIdempotency:
    async def test_another_batch_or_another_workflow_under_the_key_is_refused(
        self, client: httpx.AsyncClient
    ) -> None:
        for name in ("add", "other"):
            await client.post("/v1/workflows", json={**ADD, "name": name})
        first = await client.post(f"{BATCH}?workflow=add", content=b'{"x": 1}', headers=LINES | KEY)
        assert first.status_code == 202
        for path, body in (("add", b'{"x": 2}'), ("other", b'{"x": 1}')):
            answer = await client.post(f"{BATCH}?workflow={path}", content=body, headers=LINES | KEY)
            problem(answer, 422, "idempotency_key_reused")
        assert await count_of_runs(client) == 1

    async def test_a_refused_batch_does_not_use_its_key_up(self, client: httpx.AsyncClient) -> None:
        wrong = {"workflow": ADD, "runs": [{"inputs": {}}]}
        problem(await client.post(BATCH, json=wrong, headers=KEY), 422, "inputs_invalid")
        answer = await client.post(BATCH, json={"workflow": ADD, "runs": numbers(2)}, headers=KEY)
        assert answer.status_code == 202

    async def test_the_same_batch_again_gives_the_same_runs(self, client: httpx.AsyncClient) -> None:
        body = {"workflow": ADD, "runs": numbers(20)}
        answers = await asyncio.gather(*(client.post(BATCH, json=body, headers=KEY) for _ in range(10)))
        given = {answer.content for answer in answers if answer.status_code == 202}
        for answer in answers:
            if answer.status_code != 202:
                problem(answer, 409, "idempotency_key_in_use")
        again = await client.post(BATCH, json=body, headers=KEY)
        assert given == {again.content}
        assert again.headers["idempotency-replayed"] == "true"
        assert await count_of_runs(client) == 20
