"""What is asked of a run under a key happens once, though the process dies before it keeps its answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest

from app.engines.asked_before import effect_of
from app.ports.runs import ANSWERS_KEPT_SECONDS
from app.services.idempotency import IdempotencyKey, fingerprint
from app.stores.memory import MemoryStore
from tests.api.harness import Api, api, approval_of, problem
from tests.engines.harness import eventually, llm, workflow

ASKS = workflow(
    {"id": "ok", "type": "approval", "message": "Send it?"},
    outputs={"said": "{{ steps.ok.action }}"},
)
KEYED = {"Idempotency-Key": "k"}


async def forget(it: Api) -> None:
    """The process died after what it did was durable, and before its answer was."""
    assert isinstance(it.bench.store, MemoryStore)
    assert await it.bench.store.idempotency.prune(float("inf")) > 0


async def asks(it: Api) -> tuple[str, str]:
    """A run that waits for an answer: where it is, and where its approval is."""
    approval = await approval_of(it, ASKS)
    return f"/v1/runs/{approval['run_id']}", f"/v1/approvals/{approval['id']}"


async def happened(it: Api, run: str) -> Counter[str]:
    """How often what stands in the journal of a run."""
    rows = await it.bench.store.journal.read(run.rpartition("/")[2])
    return Counter(row.type for row in rows)


async def twice(it: Api, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
    """Ask, have the answer lost, and ask again: the same is said. The answer."""
    first = await it.client.post(path, json=body, headers=KEYED)
    assert first.is_success, first.text
    await forget(it)
    again = await it.client.post(path, json=body, headers=KEYED)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    replayed = await it.client.post(path, json=body, headers=KEYED)
    assert (replayed.content, replayed.headers["idempotency-replayed"]) == (first.content, "true")
    return first


async def test_an_approval_is_answered_once() -> None:
    async with api() as it:
        run, approval = await asks(it)
        await twice(it, approval, {"action": "approve"})
        assert (await it.bench.finish(run.rpartition("/")[2])).outputs == {"said": "approve"}
        assert (await happened(it, run))["ApprovalAnswered"] == 1


async def test_a_run_is_paused_once_and_resumed_once() -> None:
    async with api() as it:
        run, _ = await asks(it)
        await twice(it, f"{run}/pause", {"reason": "look"})
        assert (await it.client.get(run)).json()["status"] == "paused"
        await forget(it)
        await twice(it, f"{run}/resume")
        counted = await happened(it, run)
        assert (counted["RunPaused"], counted["RunResumed"]) == (1, 1)


async def test_a_pause_that_was_lifted_is_not_asked_for_again_by_its_repetition() -> None:
    async with api() as it:
        run, _ = await asks(it)
        await it.client.post(f"{run}/pause", headers=KEYED)
        await it.client.post(f"{run}/resume")
        await forget(it)
        assert (await it.client.post(f"{run}/pause", headers=KEYED)).status_code == 202
        assert (await it.client.get(run)).json()["status"] == "waiting"


async def test_a_run_is_cancelled_once_and_the_receipt_says_what_that_met() -> None:
    async def never(*_: Any) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    async with api(script=never) as it:
        run_id = await it.bench.submit(workflow(llm("a")))
        await eventually(lambda: it.bench.chat.in_flight == 1)
        receipt = await twice(it, f"/v1/runs/{run_id}/cancel", {"reason": "enough"})
        assert receipt.json()["calls_aborted"] == ["a"]
        assert (await happened(it, run_id))["CancelRequested"] == 1


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "another"}])
async def test_another_request_for_the_same_is_refused(headers: dict[str, str]) -> None:
    async with api() as it:
        run, approval = await asks(it)
        await it.client.post(approval, json={"action": "approve"}, headers=KEYED)
        await forget(it)
        again = await it.client.post(approval, json={"action": "approve"}, headers=headers)
        problem(again, 409, "approval_answered")
        other = await it.client.post(approval, json={"action": "reject"}, headers=KEYED)
        problem(other, 409, "approval_answered")
        problem(await it.client.post(f"{run}/cancel", headers=KEYED), 409, "run_not_active")


async def test_a_key_is_known_as_long_as_its_answer_would_be_and_texts_that_quote_it_are_no_effect() -> None:
    async with api() as it:
        run, approval = await asks(it)
        journal, run_id = it.bench.store.journal, run.rpartition("/")[2]
        body = b'{"action":"approve"}'
        headers = {**KEYED, "Content-Type": "application/json"}
        key = IdempotencyKey(key="k", fingerprint=fingerprint("POST", approval, body))
        request = key.request("default")
        quoting = await it.client.post(f"{run}/pause", json={"reason": request})
        assert quoting.status_code == 202
        assert await effect_of(journal, run_id, request, since=0.0) is None
        await it.client.post(f"{run}/resume")
        assert (await it.client.post(approval, content=body, headers=headers)).status_code == 200
        seq = await effect_of(journal, run_id, request, since=0.0)
        assert seq is not None
        row = (await journal.read(run_id, after=seq - 1, limit=1))[0]
        assert row.type == "ApprovalAnswered"
        later = row.at + ANSWERS_KEPT_SECONDS + 1
        assert await effect_of(journal, run_id, request, since=later - ANSWERS_KEPT_SECONDS) is None
        assert await effect_of(journal, run_id, request, since=row.at) == seq


async def test_events_do_not_tell_the_ids_of_requests() -> None:
    async with api() as it:
        run, approval = await asks(it)
        await it.client.post(approval, json={"action": "approve"}, headers=KEYED)
        await it.bench.finish(run.rpartition("/")[2])
        events = await it.client.get(f"{run}/events", headers={"Accept": "application/x-ndjson"})
        assert '"approve"' in events.text
        assert '"request"' not in events.text
