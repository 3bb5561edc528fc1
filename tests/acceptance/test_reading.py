"""What readers are told of a run and of many: the same answers however the service is started."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.acceptance.client import Caller
from tests.acceptance.documents import STALLS, approval, ask, call, completed, flow, statuses, transform
from tests.simulator.process import Simulator

SAID = "The simulated answer."
STRAIGHT = flow(
    ask("first"),
    transform("skipped", "1", condition="inputs.polite == true", depends_on=["first"]),
    {
        "id": "each",
        "type": "map",
        "items": "inputs.numbers",
        "as": "n",
        "max_concurrency": 1,
        "depends_on": ["skipped", "first"],
        "steps": [transform("x", "n * 2")],
    },
    transform("last", "steps.each.results | sum"),
    ask(
        "bad",
        provider="echo",
        model="fail:content_filter",
        depends_on=["last"],
        on_error={"action": "continue", "value": "none"},
    ),
    name="straight",
)
"""One thing after another, so that its events have one order."""
INPUTS: dict[str, Any] = {"numbers": [1, 2], "polite": False}
EVENTS = [
    ("run.started", None),
    ("step.started", "first"),
    ("step.completed", "first"),
    ("step.skipped", "skipped"),
    ("step.started", "each"),
    ("step.started", "each[0].x"),
    ("step.completed", "each[0].x"),
    ("step.started", "each[1].x"),
    ("step.completed", "each[1].x"),
    ("step.completed", "each"),
    ("step.started", "last"),
    ("step.completed", "last"),
    ("step.started", "bad"),
    ("step.attempt_failed", "bad"),
    ("step.completed", "bad"),
    ("run.completed", None),
]


def read(caller: Caller, run: dict[str, Any], what: str, **params: Any) -> dict[str, Any]:
    """An answer about a run."""
    answer = caller.http.get(f"/v1/runs/{run['id']}{what}", params=params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_what_never_was_is_not_found(caller: Caller) -> None:
    run = caller.run(STRAIGHT, INPUTS)
    last = max(event["seq"] for event in caller.events(run["id"]))
    for what, code in (
        (f"?at={last + 1}", "event_not_found"),
        ("/steps/frist/why", "step_not_found"),
        ("?under=each[7]", "step_not_found"),
    ):
        answer = caller.http.get(f"/v1/runs/{run['id']}{what}")
        assert (answer.status_code, answer.json()["code"]) == (404, code)


def test_events_tell_all_of_it_in_one_order(caller: Caller) -> None:
    run = caller.run(STRAIGHT, INPUTS)
    events = list(caller.events(run["id"]))
    assert [(event["type"], event["path"]) for event in events] == EVENTS
    by_place = {(event["type"], event["path"]): event["data"] for event in events}
    assert by_place["step.skipped", "skipped"] == {"reason": "condition"}
    assert by_place["step.started", "each"] == {"items": 2}
    assert by_place["step.completed", "each"]["outputs"] == {"results": [2, 4], "errors": []}
    assert by_place["step.completed", "first"]["outputs"]["text"] == SAID
    assert by_place["step.completed", "bad"]["recovered"] is True
    assert by_place["run.completed", None] == {"outputs": {"bad": "none"}}
    middle = events[7]["seq"]
    assert list(caller.events(run["id"], after=str(middle))) == events[8:]
    text = caller.http.get(f"/v1/runs/{run['id']}/events", headers={"last-event-id": str(middle)}).text
    ids = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")]
    assert ids == [str(event["seq"]) for event in events[8:]]


def test_a_run_is_shown_as_it_was_after_any_event(caller: Caller) -> None:
    run = caller.run(STRAIGHT, INPUTS)
    order = ["pending", "running", "completed"]
    before = -1
    for event in caller.events(run["id"]):
        then = read(caller, run, "", at=event["seq"], depth=1)
        assert then["status"] == ("completed" if event["type"] == "run.completed" else "running")
        if (event["type"], event["path"]) == ("step.completed", "each[0].x"):
            under = read(caller, run, "", at=event["seq"], under="each")
            assert statuses(under) == {"each[0].x": "completed", "each[1].x": "pending"}
        position = order.index(statuses(then)["first"])
        assert position >= before
        before = position
    assert then == read(caller, run, "", depth=1)


def test_every_step_has_a_reason(caller: Caller, vendor: Simulator) -> None:
    run = caller.run(STRAIGHT, INPUTS)
    reasons = {
        path: read(caller, run, f"/steps/{path}/why")["reason"]
        for path in ("first", "skipped", "each[1].x", "bad")
    }
    assert reasons == {
        "first": "completed",
        "skipped": "condition",
        "each[1].x": "completed",
        "bad": "recovered",
    }
    details = read(caller, run, "/steps/skipped/why")["details"]["condition"]
    assert details["operands"][0] == {"name": "inputs.polite", "value": False, "present": True, "cut": False}
    child = f"child {uuid.uuid4()}"
    caller.post("/v1/workflows", flow(ask("first"), approval(depends_on=["first"]), name=child), expect=201)
    steps = [call(child), ask("slow", model=STALLS), transform("next", "1", depends_on=["slow"])]
    busy = {"id": caller.begin(flow(*steps))}
    vendor.wait(calls=3)
    called = {"id": caller.reached(busy["id"], "step.started", path="call")["data"]["run_id"]}
    caller.reached(called["id"], "run.waiting")
    waits = {path: read(caller, busy, f"/steps/{path}/why") for path in ("call", "slow", "next")}
    assert {path: why["reason"] for path, why in waits.items()} == {
        "call": "child_run",
        "slow": "running",
        "next": "dependencies",
    }
    assert waits["call"]["details"]["run_status"] == "waiting"
    assert read(caller, called, "/steps/ask/why")["reason"] == "approval"
    caller.post(f"/v1/runs/{busy['id']}/cancel", expect=202)
    assert caller.until_ended(busy["id"])["status"] == "cancelled"
    assert read(caller, busy, "/steps/next/why")["reason"] == "run_cancelled"


def test_a_graph_shows_the_state_of_every_step(caller: Caller) -> None:
    graph = read(caller, caller.run(STRAIGHT, INPUTS), "/graph")
    assert {node["id"]: node["status"] for node in graph["nodes"]} == {
        "first": "completed",
        "skipped": "skipped",
        **dict.fromkeys(["each", "each[0]", "each[0].x", "each[1]", "each[1].x"], "completed"),
        **dict.fromkeys(["last", "bad"], "completed"),
    }
    edges = {(edge["source"], edge["target"]) for edge in graph["edges"]}
    assert edges == {
        ("first", "skipped"),
        ("skipped", "each"),
        ("first", "each"),
        ("each", "last"),
        ("last", "bad"),
    }


def test_usage_counts_called_runs_beside(caller: Caller) -> None:
    child = f"child {uuid.uuid4()}"
    caller.post("/v1/workflows", flow(ask("a"), ask("b"), name=child), expect=201)
    run = caller.run(flow(ask("own"), call(child)))
    completed(run)
    used = read(caller, run, "/usage")
    assert (used["total"]["calls"], used["total"]["input_tokens"]) == (1, 10)
    (called,) = used["children"]
    assert (called["calls"], called["input_tokens"]) == (2, 20)
    assert used["unknown_prices"] == ["sim/m"]


def test_two_runs_are_compared(caller: Caller) -> None:
    run = caller.run(STRAIGHT, INPUTS)
    changed = {"inputs": {"numbers": [1, 3], "polite": True}}
    other = caller.post(f"/v1/runs/{run['id']}/rerun", changed, expect=202)["id"]
    completed(caller.until_ended(other))
    diff = read(caller, run, f"/diff/{other}")
    assert (diff["same"], diff["definition"]["same"]) == (False, True)
    assert [change["pointer"] for change in diff["inputs"]["changes"]] == ["/numbers/1", "/polite"]
    rendered = {step["path"]: step["rendered"] for step in diff["steps"]}
    assert (rendered["first"], rendered["last"], rendered["each[1].x"]) == ("same", "different", "different")
    assert read(caller, run, f"/diff/{run['id']}")["same"] is True


def test_a_recording_has_every_answer(caller: Caller) -> None:
    run = caller.run(STRAIGHT, INPUTS)
    recording = caller.post(f"/v1/runs/{run['id']}/fixture", expect=200)
    assert recording["inputs"] == INPUTS
    answered = {
        path: step["outputs"]["text"] for path, step in recording["steps"].items() if "outputs" in step
    }
    assert [*answered] == ["first"]


@pytest.mark.parametrize("status", ["completed", "failed", "waiting"])
def test_lists_filter_by_status(status: str, caller: Caller) -> None:
    label = str(uuid.uuid4())
    fails = ask("bad", provider="echo", model="fail:content_filter")
    run_ids = {
        "completed": caller.begin(flow(transform("a", "1")), labels={"of": label}),
        "failed": caller.begin(flow(fails), labels={"of": label}),
        "waiting": caller.begin(flow(approval()), labels={"of": label}),
    }
    caller.until_ended(run_ids["completed"])
    caller.until_ended(run_ids["failed"])
    caller.reached(run_ids["waiting"], "run.waiting")
    found = caller.http.get("/v1/runs", params={"label": f"of:{label}", "status": status}).json()["data"]
    assert [(run["id"], run["status"]) for run in found] == [(run_ids[status], status)]
    caller.post(f"/v1/runs/{run_ids['waiting']}/cancel", expect=202)
    caller.until_ended(run_ids["waiting"])
