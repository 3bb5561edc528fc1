"""What people ask of a run while it is under way, and afterwards: the same however the service is started."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.acceptance.client import Caller
from tests.acceptance.documents import (
    STALLS,
    approval,
    ask,
    call,
    completed,
    flow,
    statuses,
    transform,
)
from tests.simulator.process import Simulator

BROKEN = {"max_attempts": 1}


# --- cancel -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["cancel", "pause", "resume"])
def test_a_run_that_has_ended_is_not_steered(operation: str, caller: Caller) -> None:
    run_id = caller.run(flow(transform("a", "1")))["id"]
    refused = caller.post(f"/v1/runs/{run_id}/{operation}", expect=409)
    assert refused["code"] == "run_not_active"


def test_cancelling_a_run_that_asks_somebody_withdraws_the_question(caller: Caller) -> None:
    run_id = caller.begin(flow(approval()))
    question = caller.reached(run_id, "step.started")["data"]["approval_id"]
    caller.reached(run_id, "run.waiting")
    receipt = caller.post(f"/v1/runs/{run_id}/cancel", {"reason": "not needed"}, expect=202)
    assert receipt["calls_aborted"] == []
    run = caller.until_ended(run_id)
    assert (run["status"], run["cancel_reason"]) == ("cancelled", "not needed")
    late = caller.post(f"/v1/approvals/{question}", {"action": "approve"}, expect=410)
    assert late["code"] == "approval_expired"


def test_cancelling_a_caller_cancels_the_run_it_waits_for(caller: Caller, vendor: Simulator) -> None:
    caller.post("/v1/workflows", flow(ask("slow", model=STALLS), name="stalling child"), expect=201)
    run_id = caller.begin(flow(call("stalling child")))
    child = caller.reached(run_id, "step.started", path="call")["data"]["run_id"]
    vendor.wait(calls=1)
    caller.post(f"/v1/runs/{run_id}/cancel", expect=202)
    vendor.wait(aborted=1)
    assert caller.until_ended(run_id)["status"] == "cancelled"
    assert caller.until_ended(child)["status"] == "cancelled"


def test_a_cancelled_run_tidies_up(caller: Caller, vendor: Simulator) -> None:
    tidy = ask("tidy", provider="echo", prompt="{{ run.status }}")
    run_id = caller.begin({**flow(ask("slow", model=STALLS)), "finally": [tidy]})
    vendor.wait(calls=1)
    caller.post(f"/v1/runs/{run_id}/cancel", expect=202)
    run = caller.until_ended(run_id)
    assert run["status"] == "cancelled"
    assert statuses(run) == {"slow": "cancelled", "finally.tidy": "completed"}


def test_a_cancellation_is_repeated_under_its_key(caller: Caller, vendor: Simulator) -> None:
    run_id = caller.begin(flow(ask("slow", model=STALLS)))
    vendor.wait(calls=1)
    key = str(uuid.uuid4())
    receipts = [caller.post(f"/v1/runs/{run_id}/cancel", expect=202, key=key) for _ in range(2)]
    assert receipts[0] == receipts[1]
    assert receipts[0]["calls_aborted"] == ["slow"]
    caller.until_ended(run_id)


# --- pause, resume ------------------------------------------------------------------------------------


def test_a_paused_run_begins_nothing_until_it_is_resumed(caller: Caller, vendor: Simulator) -> None:
    vendor.control(latency_ms=500)
    run_id = caller.begin(flow(ask("first"), ask("second", depends_on=["first"])))
    vendor.wait(calls=1)
    caller.post(f"/v1/runs/{run_id}/pause", {"reason": "look first"}, expect=202)
    refused = caller.post(f"/v1/runs/{run_id}/pause", expect=409)
    assert refused["code"] == "run_state_conflict"
    caller.reached(run_id, "step.completed")
    paused = caller.get(run_id)
    assert (paused["status"], paused["pause_reason"]) == ("paused", "look first")
    assert statuses(paused) == {"first": "completed", "second": "pending"}
    vendor.control(latency_ms=0)
    caller.post(f"/v1/runs/{run_id}/resume", expect=202)
    run = caller.until_ended(run_id)
    assert statuses(run) == {"first": "completed", "second": "completed"}
    assert vendor.stats().calls == 2


def test_the_time_of_a_wait_passes_while_its_run_is_paused(caller: Caller) -> None:
    rest = {"id": "rest", "type": "wait", "seconds": 1}
    run_id = caller.begin(flow(rest, transform("a", "1", depends_on=["rest"])))
    caller.reached(run_id, "step.started", path="rest")
    caller.post(f"/v1/runs/{run_id}/pause", expect=202)
    caller.reached(run_id, "step.completed", path="rest")
    paused = caller.get(run_id)
    assert (paused["status"], statuses(paused)["a"]) == ("paused", "pending")
    caller.post(f"/v1/runs/{run_id}/resume", expect=202)
    assert completed(caller.until_ended(run_id)) == {"a": 1}


# --- time and money -----------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_is_ended_and_its_handlers_run(caller: Caller, vendor: Simulator) -> None:
    alarm = ask("alarm", provider="echo", prompt="{{ run.status }}")
    document = flow(ask("slow", model=STALLS), timeout_seconds=0.5, on_failure=[alarm])
    run = caller.run(document)
    assert (run["status"], run["error"]["error_class"]) == ("timed_out", "timeout")
    assert statuses(run) == {"slow": "cancelled", "on_failure.alarm": "completed"}
    vendor.wait(aborted=1)


def test_a_run_without_budget_left_pauses_and_goes_on_with_more(caller: Caller, vendor: Simulator) -> None:
    budget = {"max_tokens": 700, "on_exceeded": "pause"}
    steps = [ask("first", max_tokens=200), ask("second", max_tokens=1000, depends_on=["first"])]
    run_id = caller.begin(flow(*steps, budget=budget))
    assert caller.reached(run_id, "run.paused")["data"] == {"reason": "budget"}
    assert vendor.stats().calls == 1
    caller.post(f"/v1/runs/{run_id}/resume", {"budget": {"max_tokens": 5000}}, expect=202)
    completed(caller.until_ended(run_id))
    used = caller.http.get(f"/v1/runs/{run_id}/usage").json()
    assert used["budget"]["max_tokens"] == 5000
    assert (used["total"]["calls"], vendor.stats().calls) == (2, 2)


# --- again --------------------------------------------------------------------------------------------


def failed_run(caller: Caller, vendor: Simulator) -> dict[str, Any]:
    """A run whose first call brought something, and whose second was refused."""
    vendor.fail("second", "unauthorized", times=1)
    run = caller.run(
        flow(ask("first"), ask("second", model="second", prompt="{{ steps.first.text }}", retry=BROKEN))
    )
    assert (run["status"], run["error"]["path"]) == ("failed", "second")
    return run


def test_what_may_not_be_repeated_is_refused(caller: Caller, vendor: Simulator) -> None:
    done = caller.run(flow(transform("a", "1")))["id"]
    assert caller.post(f"/v1/runs/{done}/retry", expect=409)["code"] == "run_completed"
    assert caller.post(f"/v1/runs/{done}/rerun", {"from": "b"}, expect=422)["code"] == "unknown_step"
    busy = caller.begin(flow(ask("slow", model=STALLS)))
    vendor.wait(calls=1)
    assert caller.post(f"/v1/runs/{busy}/retry", expect=409)["code"] == "run_not_ended"
    caller.post(f"/v1/runs/{busy}/cancel", expect=202)
    caller.until_ended(busy)


def test_a_retry_repeats_what_failed_and_nothing_else(caller: Caller, vendor: Simulator) -> None:
    failed = failed_run(caller, vendor)
    again = caller.post(f"/v1/runs/{failed['id']}/retry", expect=202)["id"]
    run = caller.until_ended(again)
    assert completed(run) == {"second": "The simulated answer."}
    assert run["parent_run_id"] == failed["id"]
    assert run["reused"]["steps"] == 1
    (first,) = [step for step in run["steps"] if step["path"] == "first"]
    assert (first["usage"], first["source"]["run_id"]) == (None, failed["id"])
    assert vendor.stats().calls == 3
    assert caller.get(failed["id"])["status"] == "failed"


def test_a_rerun_repeats_what_changed(caller: Caller, vendor: Simulator) -> None:
    steps = [
        ask("same"),
        ask("other", prompt="{{ inputs.word }}"),
        ask("last", prompt="{{ steps.same.text }} {{ steps.other.text }}"),
    ]
    one = caller.run(flow(*steps), {"word": "one"})["id"]
    assert vendor.stats().calls == 3
    again = caller.post(f"/v1/runs/{one}/rerun", {"inputs": {"word": "two"}}, expect=202)["id"]
    run = caller.until_ended(again)
    completed(run)
    taken = {step["path"]: (step["source"] or {}).get("run_id") for step in run["steps"]}
    assert taken == {"same": one, "other": None, "last": one}
    assert vendor.stats().calls == 4
    third = caller.post(f"/v1/runs/{again}/rerun", {"from": "last"}, expect=202)["id"]
    completed(caller.until_ended(third))
    assert vendor.stats().calls == 5


# --- many ---------------------------------------------------------------------------------------------


def test_a_batch_is_accepted_once_and_every_run_of_it_ends(caller: Caller, vendor: Simulator) -> None:
    runs = [{"inputs": {"x": number}} for number in range(30)]
    document = flow(ask("a"), transform("sum", "inputs.x + (steps.a.text | length)"))
    body = {"workflow": document, "runs": runs, "labels": {"kind": "sums"}}
    key = str(uuid.uuid4())
    answers = [caller.post("/v1/runs:batch", body, expect=202, key=key) for _ in range(2)]
    assert answers[0] == answers[1]
    ended = [caller.until_ended(run_id) for run_id in answers[0]["run_ids"]]
    length = len("The simulated answer.")
    assert [completed(run) for run in ended] == [{"sum": number + length} for number in range(30)]
    assert vendor.stats().calls == 30
    assert set(vendor.stats().by_key.values()) == {1}


def test_runs_are_cancelled_and_repeated_by_filter(caller: Caller, vendor: Simulator) -> None:
    group = {"labels": {"group": str(uuid.uuid4())}}
    runs: list[dict[str, Any]] = [{} for _ in range(5)]
    body = {"workflow": flow(ask("slow", model="held")), "runs": runs, **group}
    vendor.fail("held", "stall")
    run_ids = caller.post("/v1/runs:batch", body, expect=202)["run_ids"]
    vendor.wait(calls=5)
    done = caller.post("/v1/runs:cancel", {"filter": group}, expect=202)
    assert (done["matched"], done["accepted"], done["failed"]) == (5, 5, [])
    assert {caller.until_ended(run_id)["status"] for run_id in run_ids} == {"cancelled"}
    vendor.reset()
    again = caller.post("/v1/runs:retry", {"filter": group}, expect=202)
    assert (again["matched"], again["accepted"]) == (5, 5)
    listed = caller.http.get("/v1/runs", params={"label": f"group:{group['labels']['group']}", "limit": 100})
    retried = [run for run in listed.json()["data"] if run["parent_run_id"]]
    assert sorted(run["parent_run_id"] for run in retried) == sorted(run_ids)
    assert {caller.until_ended(run["id"])["status"] for run in retried} == {"completed"}


# --- limits -------------------------------------------------------------------------------------------


def limited(on_limit: str) -> dict[str, Any]:
    rule = {"key": "{{ inputs.who }}", "limit": 1, "on_limit": on_limit}
    return flow(ask("slow", model="held"), name=f"limited {on_limit}", concurrency=rule)


def test_a_run_too_many_is_refused_where_the_workflow_says_so(caller: Caller, vendor: Simulator) -> None:
    vendor.fail("held", "stall")
    first = caller.begin(limited("reject"), {"who": "ada"})
    refused = caller.submit(limited("reject"), {"who": "ada"})
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_runs")
    other = caller.begin(limited("reject"), {"who": "bob"})
    vendor.wait(calls=2)
    for run_id in (first, other):
        caller.post(f"/v1/runs/{run_id}/cancel", expect=202)
        caller.until_ended(run_id)
    vendor.reset()
    completed(caller.until_ended(caller.begin(limited("reject"), {"who": "ada"})))


def test_runs_of_one_key_run_one_after_another(caller: Caller, vendor: Simulator) -> None:
    vendor.control(latency_ms=50)
    run_ids = [caller.begin(limited("queue"), {"who": "ada"}) for _ in range(3)]
    for run_id in run_ids:
        completed(caller.until_ended(run_id))
    vendor.control(latency_ms=0)
    assert (vendor.stats().calls, vendor.stats().max_in_flight) == (3, 1)


def test_the_newest_run_takes_the_place_of_the_oldest(caller: Caller, vendor: Simulator) -> None:
    vendor.fail("held", "stall", times=1)
    first = caller.begin(limited("cancel_oldest"), {"who": "ada"})
    vendor.wait(calls=1)
    second = caller.begin(limited("cancel_oldest"), {"who": "ada"})
    assert caller.until_ended(first)["status"] == "cancelled"
    completed(caller.until_ended(second))
