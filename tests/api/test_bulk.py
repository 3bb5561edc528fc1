"""Runs by filter: cancel them, try them again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from app.engines.embedded import EngineLimits
from app.engines.engine import CancelReceipt
from app.ports.errors import PermanentError
from app.ports.models import CallContext, ChatRequest
from app.stores.memory import MemoryStore
from tests.api.harness import Api, api, problem
from tests.api.test_batches import ended
from tests.engines.harness import llm, workflow

CANCEL = "/v1/runs:cancel"
RETRY = "/v1/runs:retry"
KEY = {"idempotency-key": "clean up"}
ASKING = workflow(llm("a"), name="asking")


async def never(request: ChatRequest, context: CallContext) -> str:
    await asyncio.Event().wait()
    return ""


async def refuse(request: ChatRequest, context: CallContext) -> str:
    raise PermanentError("content_filter", "no")


@pytest.fixture
async def busy() -> AsyncIterator[Api]:
    """Two runs are under way, whatever comes waits."""
    async with api(script=never, limits=EngineLimits(max_active_runs=2, poll_seconds=0.02)) as service:
        yield service


@pytest.fixture
async def failing() -> AsyncIterator[Api]:
    async with api(script=refuse) as service:
        yield service


async def submitted(client: httpx.AsyncClient, count: int, **labels: str) -> list[str]:
    body = {"workflow": ASKING, "runs": [{"labels": labels}] * count}
    answer = await client.post("/v1/runs:batch", json=body)
    assert answer.status_code == 202, answer.text
    run_ids: list[str] = answer.json()["run_ids"]
    return run_ids


async def failed_runs(service: Api, count: int, **labels: str) -> list[str]:
    run_ids = await submitted(service.client, count, **labels)
    for run_id in run_ids:
        assert (await ended(service.client, run_id))["status"] == "failed"
    return run_ids


async def repeated(client: httpx.AsyncClient) -> list[str]:
    """The runs that the runs of the newest page are repetitions of."""
    page = (await client.get("/v1/runs?limit=100")).json()["data"]
    return sorted(run["parent_run_id"] for run in page if run["parent_run_id"])


class TestRefusals:
    @pytest.mark.parametrize("path", [CANCEL, RETRY])
    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"filter": {}}, "filter_invalid"),
            ({"filter": {"labels": {}}}, "filter_invalid"),
            ({"filter": {"status": ["completed"]}}, "filter_invalid"),
            ({}, "invalid_request"),
            ({"filter": {"state": ["failed"]}}, "invalid_request"),
            ({"filter": {"status": []}}, "invalid_request"),
            ({"filter": {"status": ["done"]}}, "invalid_request"),
            ({"filter": {"created_after": 5}}, "invalid_request"),
            ({"filter": {"workflow": "a"}, "limit": 1001}, "invalid_request"),
        ],
    )
    async def test_a_filter_that_says_too_little_is_refused(
        self, busy: Api, path: str, body: dict[str, Any], code: str
    ) -> None:
        (run_id, *_) = await submitted(busy.client, 2)
        problem(await busy.client.post(path, json=body), 422, code)
        assert (await busy.client.get(f"/v1/runs/{run_id}")).json()["status"] in {"pending", "running"}

    async def test_statuses_of_the_other_operation_are_refused(self, client: httpx.AsyncClient) -> None:
        for path, status in ((CANCEL, "failed"), (RETRY, "running")):
            answer = await client.post(path, json={"filter": {"status": [status]}})
            assert problem(answer, 422, "filter_invalid").errors[0].pointer == "/filter/status"

    async def test_a_cursor_of_another_filter_is_refused(self, failing: Api) -> None:
        await failed_runs(failing, 2)
        body = {"filter": {"workflow": "asking"}, "limit": 1}
        cursor = (await failing.client.post(RETRY, json=body)).json()["next_cursor"]
        for path, other in ((RETRY, {"workflow": "other"}), (CANCEL, {"workflow": "asking"})):
            answer = await failing.client.post(path, json={"filter": other, "cursor": cursor})
            problem(answer, 400, "invalid_cursor")


class TestCancel:
    async def test_a_defect_that_meets_one_run_is_told_beside_the_others(self, busy: Api) -> None:
        run_ids = await submitted(busy.client, 3)
        cancel = busy.bench.engine.cancel

        async def fail_once(run_id: str, *, reason: str | None, request: str | None = None) -> CancelReceipt:
            if run_id == run_ids[1]:
                raise RuntimeError("a defect")
            return await cancel(run_id, reason=reason)

        busy.bench.engine.cancel = fail_once  # type: ignore[method-assign]  # a defect
        answer = await busy.client.post(CANCEL, json={"filter": {"workflow": "asking"}})
        found = answer.json()
        assert (answer.status_code, found["matched"], found["accepted"]) == (202, 3, 2)
        assert [(one["id"], one["code"]) for one in found["failed"]] == [(run_ids[1], "internal_error")]

    async def test_runs_that_do_not_match_are_left_alone(self, busy: Api) -> None:
        mine = await submitted(busy.client, 3, team="mine")
        yours = await submitted(busy.client, 1, team="yours")
        answer = await busy.client.post(CANCEL, json={"filter": {"labels": {"team": "mine"}}})
        assert answer.status_code == 202, answer.text
        assert answer.json() == {"matched": 3, "accepted": 3, "failed": [], "next_cursor": None}
        for run_id in mine:
            assert (await ended(busy.client, run_id))["status"] == "cancelled"
        assert (await busy.client.get(f"/v1/runs/{yours[0]}")).json()["finished_at"] is None

    async def test_the_reason_is_kept(self, busy: Api) -> None:
        (run_id,) = await submitted(busy.client, 1)
        body = {"filter": {"status": ["running", "pending"]}, "reason": "the wrong file"}
        assert (await busy.client.post(CANCEL, json=body)).json()["accepted"] == 1
        assert (await ended(busy.client, run_id))["cancel_reason"] == "the wrong file"

    async def test_repetition_makes_progress_until_nothing_matches(self, busy: Api) -> None:
        await submitted(busy.client, 7)
        body = {"filter": {"workflow": "asking"}, "limit": 3}
        accepted: list[int] = []
        while not accepted or accepted[-1]:
            accepted.append((await busy.client.post(CANCEL, json=body)).json()["accepted"])
        assert accepted == [3, 3, 1, 0]

    async def test_times_bound_what_matches(self, busy: Api) -> None:
        (run_id,) = await submitted(busy.client, 1)
        created_at = (await busy.client.get(f"/v1/runs/{run_id}")).json()["created_at"]
        for bound in ("created_after", "created_before"):
            answer = await busy.client.post(CANCEL, json={"filter": {bound: created_at}})
            assert answer.json()["matched"] == 0
        answer = await busy.client.post(CANCEL, json={"filter": {"created_after": "2026-01-31T12:00:00Z"}})
        assert answer.json()["matched"] == 1

    async def test_the_same_call_under_a_key_gives_the_same_answer(self, busy: Api) -> None:
        await submitted(busy.client, 2)
        body = {"filter": {"workflow": "asking"}}
        first = await busy.client.post(CANCEL, json=body, headers=KEY)
        again = await busy.client.post(CANCEL, json=body, headers=KEY)
        assert (first.content, again.headers["idempotency-replayed"]) == (again.content, "true")


class TestRetry:
    async def test_runs_that_completed_are_left_alone(self, client: httpx.AsyncClient) -> None:
        (run_id,) = await submitted(client, 1)
        await ended(client, run_id)
        answer = await client.post(RETRY, json={"filter": {"workflow": "asking"}})
        assert answer.json() == {"matched": 0, "accepted": 0, "failed": [], "next_cursor": None}

    async def test_each_run_is_tried_again_once_page_by_page(self, failing: Api) -> None:
        run_ids = await failed_runs(failing, 5, month="may")
        body: dict[str, Any] = {"filter": {"status": ["failed"], "labels": {"month": "may"}}, "limit": 2}
        matched = []
        while True:
            answer = (await failing.client.post(RETRY, json=body)).json()
            matched.append(answer["matched"])
            if answer["next_cursor"] is None:
                break
            body["cursor"] = answer["next_cursor"]
        assert matched == [2, 2, 1]
        assert await repeated(failing.client) == run_ids

    async def test_a_call_that_was_cut_short_repeats_nothing_under_its_key(self, failing: Api) -> None:
        run_ids = await failed_runs(failing, 3)
        body = {"filter": {"status": ["failed"], "workflow": "asking"}}
        first = await failing.client.post(RETRY, json=body, headers=KEY)
        assert first.json()["accepted"] == 3
        store = failing.bench.store
        assert isinstance(store, MemoryStore)
        # as if the process had died right before the answer to the whole was kept
        del store._data.answers["default", KEY["idempotency-key"]]
        again = await failing.client.post(RETRY, json=body, headers=KEY)
        assert again.json()["accepted"] >= 3
        assert [run_id for run_id in await repeated(failing.client) if run_id in run_ids] == run_ids

    async def test_a_full_queue_ends_the_call_and_says_who_was_left(self) -> None:
        limits = EngineLimits(max_active_runs=1, max_pending_runs=4, poll_seconds=0.02)
        gate = asyncio.Event()

        async def wait_after_failing(request: ChatRequest, context: CallContext) -> str:
            if gate.is_set():
                await asyncio.Event().wait()
            raise PermanentError("content_filter", "no")

        async with api(script=wait_after_failing, limits=limits) as service:
            run_ids = await failed_runs(service, 4) + await failed_runs(service, 4)
            gate.set()
            answer = await service.client.post(RETRY, json={"filter": {"workflow": "asking"}})
            told = answer.json()
            assert told["accepted"] in {4, 5}
            left = [one["id"] for one in told["failed"]]
            assert {one["code"] for one in told["failed"]} == {"too_many_runs"}
            assert sorted(left + await repeated(service.client)) == sorted(run_ids)
            answer = await service.client.post(RETRY, json={"filter": {"workflow": "asking"}})
            problem(answer, 429, "too_many_runs")
