"""One key, one effect, one answer."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from app.ports.models import CallContext, ChatRequest
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

DOCUMENT = workflow(llm("a"))
KEY = {"idempotency-key": "order 4711"}


async def test_another_body_under_a_key_is_refused(client: httpx.AsyncClient) -> None:
    await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers=KEY)
    for path, body in [
        ("/v1/runs", {"workflow": DOCUMENT, "priority": 1}),
        ("/v1/workflows", DOCUMENT),
        ("/v1/workflows/test/runs", {}),
    ]:
        problem(await client.post(path, json=body, headers=KEY), 422, "idempotency_key_reused")


async def test_a_refused_request_does_not_use_its_key_up(client: httpx.AsyncClient) -> None:
    problem(await client.post("/v1/runs", json={"workflow": {}}, headers=KEY), 422, "definition_invalid")
    assert (await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers=KEY)).status_code == 202


async def test_a_hundred_concurrent_requests_make_one_run(service: Api) -> None:
    body = {"workflow": DOCUMENT}
    answers = await asyncio.gather(
        *(service.client.post("/v1/runs", json=body, headers=KEY) for _ in range(100))
    )
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert accepted
    assert {answer.content for answer in accepted} == {accepted[0].content}
    for answer in answers:
        if answer.status_code != 202:
            problem(answer, 409, "idempotency_key_in_use")
            assert answer.headers["retry-after"] == "1"
    again = await service.client.post("/v1/runs", json=body, headers=KEY)
    assert again.content == accepted[0].content
    assert len((await service.client.get("/v1/runs")).json()["data"]) == 1


async def test_the_first_answer_is_replayed_byte_for_byte(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers=KEY)
    again = await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers=KEY)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["location"] == first.headers["location"]


async def test_a_waiting_repetition_gets_the_same_finished_run(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/runs?wait=9", json={"workflow": DOCUMENT}, headers=KEY)
    again = await client.post("/v1/runs?wait=9", json={"workflow": DOCUMENT}, headers=KEY)
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status_code, again.content) == (200, first.content)


@pytest.mark.parametrize("waits", [False, True])
async def test_a_repetition_of_a_run_under_way_does_not_start_another(waits: bool) -> None:
    async def never(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    async with api(script=never) as service:
        path = "/v1/runs?wait=0" if waits else "/v1/runs"
        first = await service.client.post(path, json={"workflow": DOCUMENT}, headers=KEY)
        again = await service.client.post(path, json={"workflow": DOCUMENT}, headers=KEY)
        assert (again.status_code, again.content) == (202, first.content)


@pytest.mark.parametrize("query", ["", "?wait=5"])
async def test_the_answer_is_given_again_when_the_run_is_pruned(service: Api, query: str) -> None:
    first = await service.client.post("/v1/runs", json={"workflow": DOCUMENT}, headers=KEY)
    await service.bench.finish(first.json()["id"])
    assert await service.bench.store.runs.prune(time.time() + 1, limit=9) == 1
    problem(await service.client.get(first.headers["location"]), 404, "run_not_found")
    again = await service.client.post(f"/v1/runs{query}", json={"workflow": DOCUMENT}, headers=KEY)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotency-replayed"] == "true"


async def test_registering_is_replayed(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/workflows", json=DOCUMENT, headers=KEY)
    again = await client.post("/v1/workflows", json=DOCUMENT, headers=KEY)
    assert (again.status_code, again.content, again.headers["etag"]) == (
        201,
        first.content,
        first.headers["etag"],
    )
    assert again.headers["idempotency-replayed"] == "true"


async def test_cancelling_is_replayed() -> None:
    async def never(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    async with api(script=never) as service:
        links = (await service.client.post("/v1/runs", json={"workflow": DOCUMENT})).json()["links"]
        await service.bench.chat.started.wait()
        first = await service.client.post(links["cancel"], headers=KEY)
        again = await service.client.post(links["cancel"], headers=KEY)
        assert first.status_code == 202
        assert (again.status_code, again.content) == (202, first.content)
        assert again.headers["idempotency-replayed"] == "true"


async def test_two_keys_are_refused(client: httpx.AsyncClient) -> None:
    keys = [("idempotency-key", "a"), ("idempotency-key", "b")]
    refused = problem(
        await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers=keys), 400, "bad_request"
    )
    assert "send one" in (refused.detail or "")
    assert (await client.get("/v1/runs")).json()["data"] == []
