"""Pausing, resuming, retrying and rerunning over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from app.api.v1.schemas.runs import Run, RunAccepted
from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow
from tests.engines.test_waiting import until

DOCUMENT = workflow(
    llm("draft", "about {{ inputs.topic }}"),
    llm("answer", "{{ steps.draft.text }}", retry="never"),
    inputs={"type": "object", "required": ["topic"], "properties": {"topic": {"type": "string"}}},
    outputs={"answer": "{{ steps.answer.text }}"},
)
KEY = {"idempotency-key": "again 1"}
NOBODY = "0197d6a0-7c1e-7000-8000-000000000000"


@dataclass
class Script:
    """Fails where it is told to; holds every call while it is closed."""

    failing: set[str] = field(default_factory=set)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        await self.open.wait()
        if context.path in self.failing:
            raise PermanentError("invalid_request", "not this one")
        return f"{context.path} says so"


@pytest.fixture
def script() -> Script:
    made = Script()
    made.open.set()
    return made


@pytest.fixture
async def service(script: Script) -> AsyncIterator[Api]:
    async with api(script=script) as started:
        yield started


async def ended(service: Api, answer: httpx.Response) -> dict[str, Any]:
    """The new run of an answer, once it has ended."""
    accepted = RunAccepted.model_validate(answer.json())
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/runs/{accepted.id}"
    await service.bench.finish(accepted.id)
    found = (await service.client.get(answer.headers["location"])).json()
    Run.model_validate(found)
    return dict(found)


@pytest.mark.parametrize("operation", ["pause", "resume", "retry", "rerun"])
async def test_a_run_that_does_not_exist_is_not_found(service: Api, operation: str) -> None:
    problem(await service.client.post(f"/v1/runs/{NOBODY}/{operation}"), 404, "run_not_found")


@pytest.mark.parametrize("operation", ["pause", "resume"])
async def test_a_run_that_has_ended_cannot_be_steered(service: Api, operation: str) -> None:
    run = await service.run(DOCUMENT, inputs={"topic": "x"})
    problem(await service.client.post(f"/v1/runs/{run['id']}/{operation}"), 409, "run_not_active")


async def test_a_completed_run_cannot_be_retried(service: Api) -> None:
    run = await service.run(DOCUMENT, inputs={"topic": "x"})
    problem(await service.client.post(f"/v1/runs/{run['id']}/retry"), 409, "run_completed")


async def test_a_run_under_way_cannot_be_repeated(service: Api, script: Script) -> None:
    script.open.clear()
    answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT, "inputs": {"topic": "x"}})
    for operation in ("retry", "rerun"):
        again = await service.client.post(f"{answer.headers['location']}/{operation}")
        problem(again, 409, "run_not_ended")


@pytest.mark.parametrize(
    ("body", "code", "pointer", "hint"),
    [
        ('{\n  "from": "anser"\n}', "unknown_step", "/from", "did you mean 'answer'?"),
        ('{\n  "inputs": {"topic": 3}\n}', "inputs_invalid", "/inputs/topic", None),
        ('{\n  "form": "answer"\n}', "invalid_request", "/form", None),
    ],
)
async def test_a_rerun_that_cannot_be_is_refused_with_the_place(
    service: Api, body: str, code: str, pointer: str, hint: str | None
) -> None:
    run = await service.run(DOCUMENT, inputs={"topic": "x"})
    answer = await service.client.post(
        f"/v1/runs/{run['id']}/rerun", content=body, headers={"content-type": "application/json"}
    )
    found = problem(answer, 422, code)
    entry = answer.json()["errors"][0]
    assert entry["pointer"] == pointer
    if code != "invalid_request":
        assert entry["line"] == 2
    if hint is not None:
        assert entry["hint"] == hint
        assert hint in found.detail
    assert len((await service.client.get("/v1/runs")).json()["data"]) == 1


async def test_a_version_that_does_not_exist_is_not_found(service: Api) -> None:
    run = await service.run(DOCUMENT, inputs={"topic": "x"})
    answer = await service.client.post(f"/v1/runs/{run['id']}/rerun", json={"version": "9"})
    problem(answer, 404, "workflow_not_found")


async def test_inputs_that_a_new_version_needs_are_told_of_a_request_without_a_body(service: Api) -> None:
    run = await service.run(DOCUMENT, inputs={"topic": "x"})
    inputs = {"type": "object", "required": ["topic", "tone"], "properties": {"topic": {}, "tone": {}}}
    await service.client.post("/v1/workflows", json={**DOCUMENT, "version": "2", "inputs": inputs})
    answer = await service.client.post(f"/v1/runs/{run['id']}/rerun", json={"version": "2"})
    assert problem(answer, 422, "inputs_invalid").detail


async def test_a_run_is_paused_once_and_resumed_once(service: Api, script: Script) -> None:
    script.open.clear()
    answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT, "inputs": {"topic": "x"}})
    run_id, where = answer.json()["id"], answer.headers["location"]
    await service.bench.chat.started.wait()
    problem(await service.client.post(f"{where}/resume"), 409, "run_state_conflict")
    paused = await service.client.post(f"{where}/pause", json={"reason": "wait a moment"}, headers=KEY)
    assert paused.status_code == 202
    assert RunAccepted.model_validate(paused.json()).status == "paused"
    again = await service.client.post(f"{where}/pause", json={"reason": "wait a moment"}, headers=KEY)
    assert (again.content, again.headers["idempotency-replayed"]) == (paused.content, "true")
    problem(await service.client.post(f"{where}/pause"), 409, "run_state_conflict")
    script.open.set()
    await until(service.bench, run_id, lambda history: history.state.parked)
    view = (await service.client.get(where)).json()
    assert (view["status"], view["pause_reason"], view["wake_at"]) == ("paused", "wait a moment", None)
    assert [step["status"] for step in view["steps"]] == ["completed", "pending"]
    resumed = await service.client.post(f"{where}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "running")
    assert (await service.bench.finish(run_id)).status == "completed"


async def test_a_run_that_was_paused_in_the_queue_is_resumed_into_it(service: Api, script: Script) -> None:
    script.open.clear()
    document = {**DOCUMENT, "concurrency": {"key": "k", "limit": 1}}
    first, second = [
        (await service.client.post("/v1/runs", json={"workflow": document, "inputs": {"topic": "x"}})).json()
        for _ in range(2)
    ]
    where = second["links"]["self"]
    assert (await service.client.post(f"{where}/pause")).json()["status"] == "paused"
    assert (await service.client.post(f"{where}/resume")).json()["status"] == "pending"
    script.open.set()
    for run in (first, second):
        assert (await service.bench.finish(run["id"])).status == "completed"


@pytest.mark.parametrize("operation", ["pause", "cancel"])
async def test_a_reason_without_a_word_is_none(service: Api, script: Script, operation: str) -> None:
    script.open.clear()
    answer = await service.client.post("/v1/runs", json={"workflow": DOCUMENT, "inputs": {"topic": "x"}})
    where = answer.headers["location"]
    await service.client.post(f"{where}/{operation}", json={"reason": "  "})
    view = (await service.client.get(where)).json()
    assert (view["pause_reason"], view["cancel_reason"]) == (None, None)
    script.open.set()


async def test_a_run_that_took_too_long_says_so_in_its_error(service: Api) -> None:
    document = workflow({"id": "rest", "type": "wait", "seconds": 600})
    body = {"workflow": document, "timeout_seconds": 0.05}
    answer = await service.client.post("/v1/runs?wait=9", json=body)
    view = answer.json()
    assert (answer.status_code, view["status"]) == (200, "timed_out")
    assert view["error"] == {
        "error_class": "timeout",
        "message": "the run took longer than 0.05 s; raise its timeout_seconds",
        "retryable": False,
        "path": None,
    }
    Run.model_validate(view)


async def test_a_run_that_waits_says_until_when(service: Api) -> None:
    document = workflow({"id": "rest", "type": "wait", "seconds": 600})
    answer = await service.client.post("/v1/runs", json={"workflow": document})
    await until(service.bench, answer.json()["id"], lambda history: history.state.parked)
    view = (await service.client.get(answer.headers["location"])).json()
    assert view["status"] == "waiting"
    assert view["wake_at"] > view["started_at"]


async def test_a_retry_is_a_new_run_that_says_what_it_saved(service: Api, script: Script) -> None:
    script.failing.add("answer")
    first = await service.run(DOCUMENT, inputs={"topic": "x"})
    assert first["status"] == "failed"
    script.failing.clear()
    second = await ended(service, await service.client.post(f"/v1/runs/{first['id']}/retry", headers=KEY))
    assert second["status"] == "completed"
    assert second["parent_run_id"] == first["id"]
    assert second["reused"] == {"steps": 1, "input_tokens": 3, "output_tokens": 2}
    draft, answer = second["steps"]
    assert (draft["usage"], answer["source"]) == (None, None)
    assert (draft["source"]["run_id"], draft["source"]["cache"]) == (first["id"], False)
    assert draft["source"]["saved"] == first["steps"][0]["usage"]
    again = await service.client.post(f"/v1/runs/{first['id']}/retry", headers=KEY)
    assert (again.status_code, again.json()["id"]) == (202, second["id"])
    assert again.headers["idempotency-replayed"] == "true"
    assert (await service.client.get(f"/v1/runs/{first['id']}")).json() == first


async def test_a_rerun_runs_from_the_step_it_names(service: Api) -> None:
    first = await service.run(DOCUMENT, inputs={"topic": "x"})
    answer = await service.client.post(
        f"/v1/runs/{first['id']}/rerun", json={"from": "answer", "labels": {"try": "2"}, "priority": 3}
    )
    second = await ended(service, answer)
    assert (second["labels"], second["priority"], second["inputs"]) == ({"try": "2"}, 3, {"topic": "x"})
    assert second["reused"]["steps"] == 1
    assert service.bench.chat.calls == {"draft": 1, "answer": 2}


async def test_a_cached_step_is_seen_to_have_cost_nothing(service: Api) -> None:
    document = workflow(llm("a", cache={"ttl_seconds": 60}))
    first = await service.run(document)
    second = await service.run(document)
    assert second["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert second["reused"] == {"steps": 1, "input_tokens": 3, "output_tokens": 2}
    (step,) = second["steps"]
    assert step["source"] == {"run_id": None, "cache": True, "saved": first["steps"][0]["usage"]}
    lines = await service.client.get(
        f"/v1/runs/{second['id']}/events?types=step.completed", headers={"accept": "application/x-ndjson"}
    )
    event = orjson.loads(lines.content)
    assert (event["data"]["usage"], event["data"]["source"]) == (None, step["source"])


async def test_a_retry_takes_no_options() -> None:
    async with api() as it:
        run = await it.run(workflow(llm("a")))
        answer = await it.client.post(f"/v1/runs/{run['id']}/retry", json={"from": "a"})
        problem(answer, 422, "invalid_request")
