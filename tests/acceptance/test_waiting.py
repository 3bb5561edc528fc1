"""Runs that wait: for a time, for people, for other runs, for the clock, and who is told of their ends."""

from __future__ import annotations

import base64
import json
import uuid
from datetime import datetime
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.acceptance.client import Caller
from tests.acceptance.documents import approval, ask, call, completed, flow, statuses, transform
from tests.simulator.process import Simulator

REST = 3.0
LATE = 3.0
"""How late a wait may end where Temporal keeps its time, on a machine that does much else."""
SECRET = "whsec_" + base64.b64encode(b"a secret that only the tests know").decode()


def at(text: str) -> float:
    """Seconds since 1970 of a time as the API writes it."""
    return datetime.fromisoformat(text).timestamp()


def question_of(caller: Caller, run_id: str) -> str:
    """The approval that a run asks for, once it rests."""
    question: str = caller.reached(run_id, "step.started")["data"]["approval_id"]
    caller.reached(run_id, "run.waiting")
    return question


# --- time ---------------------------------------------------------------------------------------------


def test_a_wait_ends_when_its_time_is_over_and_not_before(caller: Caller) -> None:
    rest = {"id": "rest", "type": "wait", "seconds": REST}
    run_id = caller.begin(flow(rest, transform("a", "1", depends_on=["rest"])))
    caller.reached(run_id, "run.waiting")
    waiting = caller.get(run_id)
    assert waiting["status"] == "waiting"
    run = caller.until_ended(run_id)
    completed(run)
    step = run["steps"][0]
    assert at(waiting["wake_at"]) == pytest.approx(at(step["started_at"]) + REST, abs=0.01)
    assert REST <= at(step["finished_at"]) - at(step["started_at"]) < REST + LATE
    kinds = [event["type"] for event in caller.events(run_id)]
    assert kinds == [
        "run.started",
        "step.started",
        "run.waiting",
        "run.resumed",
        *["step.completed", "step.started", "step.completed"],
        "run.completed",
    ]


# --- people -------------------------------------------------------------------------------------------


def test_an_answer_counts_once_and_has_to_fit(caller: Caller) -> None:
    form = {"type": "object", "required": ["note"], "properties": {"note": {"type": "string"}}}
    run_id = caller.begin(flow(approval(form=form), transform("after", "steps.ask.data.note | upper")))
    where = f"/v1/approvals/{question_of(caller, run_id)}"
    open_ones = caller.http.get("/v1/approvals", params={"run_id": run_id}).json()["data"]
    assert [f"/v1/approvals/{one['id']}" for one in open_ones] == [where]
    unfit = caller.post(where, {"action": "approve", "data": {"note": 5}}, expect=422)
    assert (unfit["code"], unfit["errors"][0]["pointer"]) == ("answer_invalid", "/data/note")
    key, answer = str(uuid.uuid4()), {"action": "approve", "data": {"note": "fine"}}
    first = caller.post(where, answer, expect=200, key=key)
    assert caller.post(where, answer, expect=200, key=key) == first
    late = caller.post(where, {"action": "reject"}, expect=409)
    assert late["code"] == "approval_answered"
    assert completed(caller.until_ended(run_id)) == {"after": "FINE"}
    assert caller.http.get("/v1/approvals", params={"run_id": run_id}).json()["data"] == []


@pytest.mark.parametrize(
    ("on_timeout", "status", "action"),
    [("fail", "failed", None), ("reject", "completed", "reject"), ("approve", "completed", "approve")],
)
def test_silence_means_what_the_document_says(
    on_timeout: str, status: str, action: str | None, caller: Caller
) -> None:
    run = caller.run(flow(approval(timeout_seconds=0.3, on_timeout=on_timeout)))
    assert run["status"] == status
    if action is None:
        assert run["error"]["error_class"] == "approval_timeout"
    else:
        assert run["outputs"] == {"ask": action}
    late = caller.http.get("/v1/approvals", params={"run_id": run["id"]}).json()["data"]
    assert late == []


def test_a_follower_sees_a_run_through_its_rest(caller: Caller) -> None:
    run_id = caller.begin(
        flow(ask("before"), approval(depends_on=["before"]), ask("after", depends_on=["ask"]))
    )
    seen = []
    for event in caller.events(run_id):
        seen.append(event)
        if event["type"] == "run.waiting":
            (question,) = caller.http.get("/v1/approvals", params={"run_id": run_id}).json()["data"]
            caller.post(f"/v1/approvals/{question['id']}", {"action": "approve"}, expect=200)
    assert seen == list(caller.events(run_id))
    assert [event["path"] for event in seen if event["type"] == "step.completed"] == [
        "before",
        "ask",
        "after",
    ]
    seqs = [event["seq"] for event in seen]
    assert seqs == sorted({*seqs})


# --- other runs ---------------------------------------------------------------------------------------


def registered(caller: Caller, *steps: dict[str, Any], **more: Any) -> str:
    """The name of a workflow that others may call."""
    name = f"child {uuid.uuid4()}"
    caller.post("/v1/workflows", flow(*steps, name=name, **more), expect=201)
    return name


def test_a_called_run_that_fails_fails_its_caller(caller: Caller) -> None:
    child = registered(caller, ask("bad", provider="echo", model="fail:content_filter"))
    run = caller.run(flow(call(child)))
    assert (run["status"], run["error"]["path"]) == ("failed", "call")
    assert run["error"]["error_class"] == "content_filter"
    missing = caller.run(flow(call(f"no {child}")))
    assert missing["error"]["error_class"] == "not_found"


def test_a_called_run_brings_its_outputs_however_long_it_rests(caller: Caller) -> None:
    outputs = {"said": "{{ inputs.word | upper }}", "by": "{{ steps.ask.action }}"}
    child = registered(caller, approval(), outputs=outputs)
    after = transform("after", "steps.call.said ~ steps.call.by")
    run_id = caller.begin(flow(call(child, inputs={"word": "yes"}), after))
    caller.reached(run_id, "run.waiting")
    called = caller.reached(run_id, "step.started", path="call")["data"]["run_id"]
    where = f"/v1/approvals/{question_of(caller, called)}"
    assert caller.get(run_id)["status"] == "waiting"
    caller.post(where, {"action": "approve"}, expect=200)
    assert completed(caller.until_ended(run_id)) == {"after": "YESapprove"}
    assert caller.get(called)["parent_run_id"] == run_id


def test_runs_of_a_map_are_called_and_collected_in_order(caller: Caller) -> None:
    child = registered(
        caller, transform("double", "inputs.n * 2"), outputs={"n": "{{ steps.double.result }}"}
    )
    each = {"id": "each", "type": "map", "items": "inputs.numbers", "as": "n", "max_concurrency": 5}
    each["steps"] = [call(child, inputs={"n": "{{ n }}"}), transform("got", "steps.call.n")]
    run = caller.run(flow(each), {"numbers": [*range(12)]})
    assert completed(run) == {"each": [2 * number for number in range(12)]}


# --- the clock ----------------------------------------------------------------------------------------


def test_a_schedule_fires_on_time_and_stops_when_it_is_paused(caller: Caller) -> None:
    name = registered(caller, transform("a", "inputs.x + 1"))
    fields = {"name": f"every second {name}", "workflow": name, "interval_seconds": 1, "inputs": {"x": 1}}
    schedule = caller.post("/v1/schedules", fields, expect=201)
    where = schedule["links"]["self"]
    runs: list[dict[str, Any]] = []
    while len(runs) < 2:
        runs = caller.http.get(schedule["links"]["runs"]).json()["data"]
    caller.post(f"{where}/pause", expect=200)
    ended = [caller.until_ended(run["id"]) for run in runs]
    assert [completed(run) for run in ended] == [{"a": 2}] * len(ended)
    due = sorted(run["labels"]["scheduled_for"] for run in ended)
    assert len({*due}) == len(due)
    triggered = caller.post(f"{where}/trigger", expect=202)
    completed(caller.until_ended(triggered["id"]))
    assert caller.http.delete(where).status_code == 204


# --- who is told --------------------------------------------------------------------------------------


def hooks_at(vendor: Simulator, path: str) -> list[dict[str, Any]]:
    return [hook for hook in vendor.stats().hooks if hook["path"] == path]


def test_a_webhook_hears_once_of_every_run_that_it_asked_for(caller: Caller, vendor: Simulator) -> None:
    path, label = f"/hook/{uuid.uuid4()}", str(uuid.uuid4())
    fields = {"url": f"{vendor.url}{path}", "labels": {"told": label}, "include_outputs": True}
    webhook = caller.post("/v1/webhooks", fields, expect=201)
    vendor.fail(path, "server_error", times=1)
    labels = {"labels": {"told": label}}
    fails = ask("bad", provider="echo", model="fail:content_filter")
    run_ids = {
        caller.begin(flow(transform("a", "1")), **labels): ("run.completed", {"a": 1}),
        caller.begin(flow(fails), **labels): ("run.failed", None),
    }
    caller.begin(flow(transform("a", "1")))
    for run_id in run_ids:
        caller.until_ended(run_id)
    vendor.wait(hooks=2, calls=3, seconds=20)
    told = {}
    for hook in hooks_at(vendor, path):
        event = Webhook(webhook["secret"]).verify(hook["body"], hook["headers"])
        told[event["data"]["run_id"]] = (event["type"], event["data"].get("outputs"))
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(hook["body"], hook["headers"])
    assert told == run_ids
    assert caller.http.delete(f"/v1/webhooks/{webhook['id']}").status_code == 204


def test_a_run_may_bring_its_own_webhook(caller: Caller, vendor: Simulator) -> None:
    path = f"/hook/{uuid.uuid4()}"
    webhook = {"url": f"{vendor.url}{path}", "secret": SECRET, "events": ["run.waiting", "run.completed"]}
    run_id = caller.begin(flow(approval()), webhook=webhook)
    vendor.wait(hooks=1, seconds=20)
    caller.post(f"/v1/approvals/{question_of(caller, run_id)}", {"action": "approve"}, expect=200)
    vendor.wait(hooks=2, seconds=20)
    kinds = [json.loads(hook["body"])["type"] for hook in hooks_at(vendor, path)]
    assert kinds == ["run.waiting", "run.completed"]
    log = caller.http.get(f"/v1/runs/{run_id}/deliveries").json()["data"]
    assert sorted(delivery["event"] for delivery in log) == ["run.completed", "run.waiting"]
    assert statuses(caller.get(run_id)) == {"ask": "completed"}
