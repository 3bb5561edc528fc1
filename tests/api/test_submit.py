"""Submitting: an answer at once, or the finished run for a caller who waits."""

from __future__ import annotations

import asyncio

import httpx
import orjson
import pytest

from app.api.v1.schemas.runs import CancelReceipt, Run, RunAccepted
from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

DOCUMENT = workflow(llm("a"), llm("b", "{{ steps.a.text }}"), outputs={"answer": "{{ steps.b.text }}"})


async def never(request: ChatRequest, context: CallContext) -> str:
    await asyncio.Event().wait()
    return ""


async def test_a_run_is_accepted_at_once(service: Api) -> None:
    answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT, "labels": {"team": "a"}})
    assert answer.status_code == 202
    accepted = RunAccepted.model_validate_json(answer.content)
    assert accepted.status == "pending"
    assert answer.headers["location"] == accepted.links.self == f"/v1/runs/{accepted.id}"
    assert answer.headers["retry-after"] == "1"
    await service.bench.finish(accepted.id)
    read = (await service.client.get(accepted.links.self)).json()
    assert (read["status"], read["labels"], read["outputs"]) == (
        "completed",
        {"team": "a"},
        {"answer": "b done"},
    )


async def test_a_caller_who_waited_in_vain_hears_what_the_run_is_by_now() -> None:
    """Not what it was when it was accepted."""
    asking = workflow({"id": "ask", "type": "approval", "message": "?"})
    async with api() as service:
        answer = await service.client.post("/v1/runs?wait=1", json={"workflow": asking})
        assert answer.status_code == 202
        assert RunAccepted.model_validate(answer.json()).status == "waiting"


@pytest.mark.parametrize("how", ["parameter", "header", "both"])
async def test_a_waiting_caller_gets_the_finished_run(client: httpx.AsyncClient, how: str) -> None:
    query = "?wait=9" if how != "header" else ""
    headers = {"prefer": "respond-async, wait=20"} if how != "parameter" else {}
    answer = await client.post(f"/v1/runs{query}", json={"workflow": DOCUMENT}, headers=headers)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == ("wait=20" if how == "header" else "wait=9")
    run = Run.model_validate_json(answer.content)
    assert (run.status, run.outputs) == ("completed", {"answer": "b done"})
    assert answer.headers["location"] == run.links.self
    assert (await client.get(run.links.self)).content == answer.content


async def test_a_preference_beyond_the_cap_is_cut(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers={"prefer": "wait=9999"})
    assert answer.headers["preference-applied"] == "wait=60"


async def test_other_preferences_are_ignored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/runs", json={"workflow": DOCUMENT}, headers={"prefer": "return=minimal"})
    assert answer.status_code == 202


async def test_a_run_that_takes_longer_is_answered_as_accepted() -> None:
    async with api(script=never) as service:
        answer = await service.client.post("/v1/runs?wait=0", json={"workflow": DOCUMENT})
        assert answer.status_code == 202
        assert "preference-applied" not in answer.headers
        RunAccepted.model_validate_json(answer.content)


async def test_a_failed_run_tells_step_class_and_whether_to_try_again() -> None:
    async def refuse(request: ChatRequest, context: CallContext) -> str:
        raise PermanentError("content_filter", "the model refused")

    async with api(script=refuse) as service:
        run = await service.run(DOCUMENT)
        assert run["status"] == "failed"
        assert run["error"] == {
            "error_class": "content_filter",
            "message": "the model refused",
            "retryable": False,
            "path": "a",
        }
        assert [(step["status"], step["skip_reason"]) for step in run["steps"]] == [
            ("failed", None),
            ("skipped", "upstream_failed"),
        ]


async def test_a_registered_workflow_is_run_by_name(client: httpx.AsyncClient) -> None:
    for version in ("1", "2"):
        await client.post("/v1/workflows", json={**DOCUMENT, "version": version})
    newest = await client.post("/v1/workflows/test/runs?wait=9", json={})
    first = await client.post("/v1/runs?wait=9", json={"workflow": "test", "version": "1"})
    assert (newest.json()["version"], first.json()["version"]) == ("2", "1")
    problem(
        await client.post("/v1/runs", json={"workflow": "test", "version": "3"}), 404, "workflow_not_found"
    )


@pytest.mark.parametrize(("query", "status"), [("", "running"), ("&on_disconnect=cancel", "cancelled")])
async def test_a_caller_who_goes_away_cancels_only_if_asked_to(query: str, status: str) -> None:
    async with api(script=never) as service:
        body = orjson.dumps({"workflow": workflow(llm("a"))})
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, object]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            pass

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/runs",
            "raw_path": b"/v1/runs",
            "query_string": f"wait=60{query}".encode(),
            "headers": [
                (b"host", b"127.0.0.1"),
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
            ],
            "server": ("127.0.0.1", 80),
        }
        call = asyncio.ensure_future(service.app(scope, receive, send))
        await service.bench.chat.started.wait()
        gone.set()
        run_id = (await service.client.get("/v1/runs")).json()["data"][0]["id"]
        if status == "cancelled":
            await asyncio.wait_for(call, 5)
            await service.bench.finish(run_id)
        assert (await service.client.get(f"/v1/runs/{run_id}")).json()["status"] == status
        service.services.close()
        await asyncio.wait_for(call, 5)


async def test_a_standby_promises_a_cancellation_too() -> None:
    slot = ExecutorSlot()
    slot.holder = MemoryLock(slot)
    async with api(lock=MemoryLock(slot)) as service:
        accepted = await service.client.post(
            "/v1/runs?wait=1&on_disconnect=cancel", json={"workflow": DOCUMENT}
        )
        assert accepted.status_code == 202, accepted.text
        assert len((await service.client.get("/v1/runs")).json()["data"]) == 1


async def test_cancel_gives_a_receipt_and_cannot_be_repeated() -> None:
    async with api(script=never) as service:
        accepted = (await service.client.post("/v1/runs", json={"workflow": workflow(llm("a"))})).json()
        await service.bench.chat.started.wait()
        answer = await service.client.post(accepted["links"]["cancel"], json={"reason": "no need"})
        assert answer.status_code == 202
        receipt = CancelReceipt.model_validate_json(answer.content)
        assert (receipt.status, receipt.calls_aborted, receipt.unknown_effects) == ("cancelling", ["a"], [])
        await service.bench.finish(accepted["id"])
        run = (await service.client.get(accepted["links"]["self"])).json()
        assert (run["status"], run["cancel_reason"]) == ("cancelled", "no need")
        problem(await service.client.post(accepted["links"]["cancel"]), 409, "run_not_active")
