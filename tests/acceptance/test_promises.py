"""What the README promises, seen from outside: register, run, list, stream, cancel, repeat, validate."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.acceptance.client import Caller
from tests.acceptance.installations import Installation
from tests.simulator.process import Simulator


def asks(provider: str, model: str = "any", **more: Any) -> dict[str, Any]:
    """A workflow of one LLM call."""
    step = {"id": "ask", "type": "llm", "provider": provider, "model": model, "prompt": "{{ inputs.text }}"}
    return {"name": "asks", "steps": [{**step, **more}]}


CHAIN = """\
name: chain
version: "1.0"
inputs: {type: object, required: [text], properties: {text: {type: string}}}
steps:
  - {id: first, type: llm, provider: sim, model: m, prompt: "Outline: {{ inputs.text }}"}
  - {id: second, type: llm, provider: sim, model: m, prompt: "Draft: {{ steps.first.text }}", stream: true}
  - {id: third, type: transform, expression: "steps.second.text | upper"}
outputs: {answer: "{{ steps.third.result }}"}
"""


# --- refusals -----------------------------------------------------------------------------------------


def test_a_wrong_document_is_refused_with_every_problem_and_its_place(caller: Caller) -> None:
    text = (
        "name: wrong\n"
        "steps:\n"
        "  - {id: a, type: embedd, provider: echo, model: m, input: x}\n"
        "  - id: b\n"
        "    type: transform\n"
        "    expression: steps.c.result\n"
        "  - id: c\n"
        "    type: transform\n"
        "    expression: steps.b.result\n"
        "outputs: {x: '{{ steps.cc.result }}'}\n"
    )
    for answer in (caller.validate(text), caller.register(text)):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["code"] == "definition_invalid"
        found = {entry["pointer"]: entry for entry in problem["errors"]}
        assert found["/steps/0/type"]["line"] == 3
        assert found["/steps/0/type"]["hint"] == "did you mean 'embed'?"
        assert "b -> c -> b" in found["/steps/1"]["detail"] or "c -> b -> c" in str(problem)
        assert found["/outputs/x"]["line"] == 10
    assert caller.http.get("/v1/workflows/wrong").status_code == 404


def test_inputs_that_do_not_fit_are_refused_and_nothing_is_stored(caller: Caller) -> None:
    caller.register(CHAIN)
    before = caller.http.get("/v1/runs", params={"workflow": "chain"}).json()["data"]
    answer = caller.submit("chain", {"txt": "x"})
    assert answer.status_code == 422
    assert answer.json()["code"] == "inputs_invalid"
    assert caller.http.get("/v1/runs", params={"workflow": "chain"}).json()["data"] == before


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'{"workflow": "a", "workflow": "b"}', "application/json", 400),
        (b'{"workflow": NaN}', "application/json", 400),
        (b"workflow: a", "application/x-www-form-urlencoded", 415),
        (b'{"workflow": "missing"}', "application/json", 404),
        (b'{"workflow": "missing", "wait": 1}', "application/json", 422),
        (b'{"inputs": {}}', "application/json", 422),
    ],
)
def test_a_malformed_submission_is_refused_with_what_to_do(
    body: bytes, content_type: str, status: int, caller: Caller
) -> None:
    answer = caller.http.post("/v1/runs", content=body, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


def test_a_body_over_the_limit_is_refused_before_it_is_parsed(caller: Caller) -> None:
    answer = caller.register(b"[" * (5 * 1024 * 1024))
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/v1/runs/nonsense", "/v1/runs/nonsense/events"])
def test_an_id_that_is_none_is_refused(path: str, caller: Caller) -> None:
    assert caller.http.get(path).status_code == 422


def test_a_run_that_does_not_exist_is_404(caller: Caller) -> None:
    answer = caller.http.get("/v1/runs/0197d6a0-7c1e-7000-8000-000000000000")
    assert answer.status_code == 404
    assert answer.json()["code"] == "run_not_found"


# --- failures -----------------------------------------------------------------------------------------


def test_a_run_that_fails_names_the_step_the_class_and_whether_trying_again_helps(
    caller: Caller, vendor: Simulator
) -> None:
    run = caller.run(asks("sim", "fault:unauthorized"), {"text": "x"})
    assert run["status"] == "failed"
    assert run["error"]["path"] == "ask"
    assert run["error"]["error_class"] == "authentication"
    assert run["error"]["retryable"] is False
    assert vendor.stats().calls == 1


def test_a_failing_run_does_not_disturb_others(caller: Caller) -> None:
    with ThreadPoolExecutor(8) as pool:
        workflows = [asks("echo", "fail:server_error", retry="never"), asks("echo")] * 8
        runs = list(pool.map(lambda workflow: caller.run(workflow, {"text": "x"}), workflows))
    assert [run["status"] for run in runs] == ["failed", "completed"] * 8


def test_a_provider_that_recovers_is_tried_again(caller: Caller, vendor: Simulator) -> None:
    retry = {"max_attempts": 3, "initial_delay_ms": 1}
    run = caller.run(asks("sim", "fault:rate_limit:2", retry=retry), {"text": "x"})
    assert run["status"] == "completed"
    (step,) = caller.get(run["id"], include="attempts")["steps"]
    assert [attempt["outcome"] for attempt in step["attempts"]] == ["failed", "failed", "succeeded"]
    (calls,) = vendor.stats().by_key.values()
    assert calls == 3


# --- the way of a run ---------------------------------------------------------------------------------


def test_a_registered_workflow_runs_to_its_outputs(caller: Caller, vendor: Simulator) -> None:
    assert caller.register(CHAIN).status_code in {200, 201}
    run = caller.run("chain", {"text": "group commit"})
    assert run["status"] == "completed"
    assert run["outputs"] == {"answer": "THE SIMULATED ANSWER."}
    assert [step["status"] for step in run["steps"]] == ["completed"] * 3
    assert run["usage"]["input_tokens"] > 0
    assert vendor.stats().calls == 2


def test_versions_are_immutable(caller: Caller) -> None:
    first = caller.register(
        "name: versioned\nversion: '1'\nsteps: [{id: a, type: transform, expression: '1'}]"
    )
    again = caller.register(
        "name: versioned\nversion: '1'\nsteps: [{id: a, type: transform, expression: '1'}]"
    )
    other = caller.register(
        "name: versioned\nversion: '1'\nsteps: [{id: a, type: transform, expression: '2'}]"
    )
    newer = caller.register(
        "name: versioned\nversion: '2'\nsteps: [{id: a, type: transform, expression: '2'}]"
    )
    assert [answer.status_code for answer in (first, again, other, newer)] == [201, 200, 409, 201]
    assert caller.run("versioned")["outputs"] == {"a": 2}
    old = caller.submit("versioned", version="1", wait=30).json()
    assert old["outputs"] == {"a": 1}


def test_the_id_comes_at_once_and_the_answer_later(caller: Caller) -> None:
    answer = caller.submit(asks("sim"), {"text": "x"})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/runs/{answer.json()['id']}"
    assert caller.until_ended(answer.json()["id"])["outputs"] == {"ask": "The simulated answer."}


def test_waiting_ends_with_202_when_the_run_takes_longer(caller: Caller) -> None:
    answer = caller.submit(asks("slow"), {"text": "x"}, wait=1)
    assert answer.status_code == 202
    assert answer.headers["retry-after"]
    caller.http.post(f"/v1/runs/{answer.json()['id']}/cancel").raise_for_status()


def test_the_prefer_header_waits_too(caller: Caller) -> None:
    answer = caller.http.post(
        "/v1/runs", json={"workflow": asks("echo"), "inputs": {"text": "x"}}, headers={"prefer": "wait=30"}
    )
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=30"


def test_a_stream_tells_everything_in_order_and_resumes_without_gap(
    caller: Caller, vendor: Simulator
) -> None:
    vendor.control(stream_gap_ms=5)
    caller.register(CHAIN)
    run_id = caller.submit("chain", {"text": "x"}).json()["id"]
    live = list(caller.events(run_id))
    kept = [event for event in live if event["seq"] is not None]
    assert [event["type"] for event in kept] == [
        "run.started",
        *["step.started", "step.completed"] * 3,
        "run.completed",
    ]
    assert all(one["seq"] < other["seq"] for one, other in pairwise(kept))
    pieces = [event["data"]["text"] for event in live if event["type"] == "step.delta"]
    assert "The simulated answer.".endswith("".join(pieces))
    middle = kept[3]["seq"]
    assert list(caller.events(run_id, after=str(middle))) == kept[4:]
    assert list(caller.events(run_id)) == kept
    only = caller.events(run_id, types="run.completed")
    assert [event["type"] for event in only] == ["run.completed"]
    nothing_more = caller.http.get(f"/v1/runs/{run_id}/events", params={"after": kept[-1]["seq"]})
    assert nothing_more.status_code == 204


def test_server_sent_events_carry_ids_to_resume_by(caller: Caller) -> None:
    run_id = caller.run(asks("echo"), {"text": "x"})["id"]
    text = caller.http.get(f"/v1/runs/{run_id}/events").text
    assert "event: run.completed" in text
    last_but_one = [line.removeprefix("id: ") for line in text.splitlines() if line.startswith("id: ")][-2]
    rest = caller.http.get(f"/v1/runs/{run_id}/events", headers={"last-event-id": last_but_one}).text
    assert [line for line in rest.splitlines() if line.startswith("event: ")] == ["event: run.completed"]


def test_cancel_aborts_the_call_in_flight(caller: Caller, vendor: Simulator) -> None:
    run_id = caller.submit(asks("sim", "fault:stall"), {"text": "x"}).json()["id"]
    vendor.wait(calls=1)
    answer = caller.http.post(f"/v1/runs/{run_id}/cancel", json={"reason": "too slow"})
    assert answer.status_code == 202
    assert answer.json()["calls_aborted"] == ["ask"]
    assert len(vendor.wait(aborted=1).aborted) == 1
    run = caller.until_ended(run_id)
    assert run["status"] == "cancelled"
    assert run["cancel_reason"] == "too slow"
    again = caller.http.post(f"/v1/runs/{run_id}/cancel")
    assert again.status_code == 409
    assert again.json()["code"] == "run_not_active"


def test_a_caller_that_goes_away_cancels_only_if_it_said_so(caller: Caller, vendor: Simulator) -> None:
    for policy, aborted in (("continue", 0), ("cancel", 1)):
        vendor.reset()
        with pytest.raises(httpx.ReadTimeout):
            caller.http.post(
                "/v1/runs",
                params={"wait": 30, "on_disconnect": policy},
                json={
                    "workflow": asks("sim", "fault:stall"),
                    "inputs": {"text": policy},
                    "labels": {"leaves": policy},
                },
                timeout=1.0,
            )
        if aborted:
            vendor.wait(aborted=1)
        (run,) = caller.http.get("/v1/runs", params={"label": f"leaves:{policy}"}).json()["data"]
        if aborted:
            assert caller.until_ended(run["id"])["status"] == "cancelled"
        else:
            assert run["status"] == "running"
            caller.http.post(f"/v1/runs/{run['id']}/cancel").raise_for_status()
            caller.until_ended(run["id"])


# --- repeating, listing, operating --------------------------------------------------------------------


def test_a_repeated_submission_is_one_run(caller: Caller, vendor: Simulator) -> None:
    workflow = asks("sim")
    with ThreadPoolExecutor(10) as pool:
        answers = list(
            pool.map(lambda _: caller.submit(workflow, {"text": "once"}, key="acceptance-once"), range(30))
        )
    assert {answer.status_code for answer in answers} <= {202, 409}
    ids = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(ids) == 1
    caller.until_ended(ids.pop())
    assert vendor.stats().calls == 1
    replayed = caller.submit(workflow, {"text": "once"}, key="acceptance-once")
    assert replayed.headers["idempotency-replayed"] == "true"
    other = caller.submit(workflow, {"text": "twice"}, key="acceptance-once")
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_lists_page_through_every_run_once(caller: Caller) -> None:
    submitted = {
        caller.submit(asks("echo"), {"text": str(number)}, labels={"group": "paging"}).json()["id"]
        for number in range(7)
    }
    seen: list[str] = []
    params: dict[str, str | int] = {"label": "group:paging", "limit": 3}
    while True:
        page = caller.http.get("/v1/runs", params=params).raise_for_status().json()
        seen += [run["id"] for run in page["data"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert len(seen) == 7
    assert set(seen) == submitted
    wrong = caller.http.get("/v1/runs", params={"limit": 3, "cursor": params["cursor"]})
    assert wrong.status_code == 400
    assert wrong.json()["code"] == "invalid_cursor"


def test_a_run_that_has_not_changed_is_304(caller: Caller) -> None:
    run_id = caller.run(asks("echo"), {"text": "x"})["id"]
    tag = caller.http.get(f"/v1/runs/{run_id}").headers["etag"]
    assert caller.http.get(f"/v1/runs/{run_id}", headers={"if-none-match": tag}).status_code == 304


def test_a_workflow_with_active_runs_is_not_deleted(caller: Caller) -> None:
    caller.register("name: kept\nsteps: [{id: a, type: llm, provider: slow, model: m, prompt: x}]")
    run_id = caller.submit("kept").json()["id"]
    assert caller.http.delete("/v1/workflows/kept").status_code == 409
    caller.http.post(f"/v1/runs/{run_id}/cancel").raise_for_status()
    caller.until_ended(run_id)
    assert caller.http.delete("/v1/workflows/kept").status_code == 204
    assert caller.http.get("/v1/workflows/kept").status_code == 404
    assert caller.get(run_id)["status"] == "cancelled"


def test_operators_see_health_metrics_and_the_openapi_document(
    caller: Caller, installation: Installation
) -> None:
    assert caller.http.get("/healthz").json()["status"] == "ok"
    ready = caller.http.get("/readyz").json()
    assert set(ready["checks"]) == {"store", "executor", "queue", "memory", "draining"}
    caller.run(asks("echo"), {"text": "a prompt of Timbuktu"})
    metrics = installation.metrics()
    assert 'orchestrator_workflow_executions_total{status="completed",workflow_name="asks"}' in metrics
    document = caller.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "Timbuktu" not in installation.log()
    assert "sk-simulated" not in installation.log()
