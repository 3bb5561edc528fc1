"""Runs from an API process to a worker and back, in real processes."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.engines.temporal.cluster import Cluster
from tests.engines.temporal.flows import say, submit, until_status
from tests.recovery.chain import outputs_of
from tests.recovery.stored import StoredRun, stored_runs
from tests.stopwatch import Stopwatch

pytestmark = pytest.mark.temporal

FOREVER_MS = 60_000
CLOSED_WITHIN = 0.5
Promise = Callable[[Cluster], None]


def events_of(cluster: Cluster, run_id: str) -> StoredRun:
    return stored_runs(cluster.data_dir)[run_id]


def pending_activities(cluster: Cluster, run_id: str) -> int:
    """How many activities of the run Temporal has out."""
    said = cluster.temporal.ask("workflow", "describe", "--workflow-id", run_id)
    assert said.returncode == 0, said.stderr
    return said.stdout.count("execute_run")


def test_a_run_is_executed_by_a_worker_and_followed_through_the_api(cluster: Cluster) -> None:
    client = cluster.client()
    worker = cluster.worker()
    run_id = client.accepted("word")
    run = client.ended(run_id)
    assert run["status"] == "completed"
    assert run["outputs"] == outputs_of("word")
    stored = events_of(cluster, run_id)
    assert stored.flaws() == []
    started = next(event for event in stored.events if event.type == "RunStarted")
    assert started.payload["data"]["worker"].startswith(worker.identity)


def test_a_caller_may_wait_for_the_end(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.worker()
    answer = client.http.post("/v1/runs?wait=20", json={"workflow": {"name": "w", "steps": [say("a")]}})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "completed"


def test_cancelling_closes_the_socket_of_the_call(cluster: Cluster) -> None:
    cluster.simulator.control(latency_ms=FOREVER_MS)
    client = cluster.client()
    cluster.worker()
    delays = []
    for number in range(3):
        run_id = client.accepted(f"word-{number}")
        cluster.simulator.wait(calls=number + 1)
        with Stopwatch() as watch:
            asked = time.monotonic()
            answer = client.http.post(f"/v1/runs/{run_id}/cancel")
            assert answer.status_code == 202, answer.text
            aborted = cluster.simulator.wait(aborted=number + 1).aborted[-1]
            assert aborted["key"] == f"{run_id}:first"
            delays.append(aborted["at"] - asked - watch.stood_still)
        assert client.ended(run_id)["status"] == "cancelled"
    assert max(delays) <= CLOSED_WITHIN, delays
    again = client.http.post(f"/v1/runs/{run_id}/cancel")
    assert again.status_code == 409, again.text


def test_a_wait_parks_without_an_activity_and_ends_on_time(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.worker()
    run_id = submit(client, {"id": "pause", "type": "wait", "seconds": 4}, say("after", after="pause"))
    until_status(client, run_id, "waiting")
    assert pending_activities(cluster, run_id) == 0
    assert client.ended(run_id)["status"] == "completed"
    stored = events_of(cluster, run_id)
    at = {event.type: event.payload for event in stored.events}
    assert "worker" in at["RunWoken"]["data"]
    assert stored.flaws() == []


def test_an_approval_parks_without_an_activity_and_goes_on_when_it_is_answered(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.worker()
    run_id = submit(client, {"id": "ask", "type": "approval", "message": "May it?"}, say("x", after="ask"))
    until_status(client, run_id, "waiting")
    assert pending_activities(cluster, run_id) == 0
    approval = client.http.get("/v1/approvals").json()["data"][0]
    answer = client.http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"})
    assert answer.status_code == 200, answer.text
    assert client.ended(run_id)["status"] == "completed"
    again = client.http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"})
    assert again.status_code == 409, again.text


def test_a_paused_run_goes_on_when_it_is_resumed(cluster: Cluster) -> None:
    cluster.simulator.control(latency_ms=1000)
    client = cluster.client()
    cluster.worker()
    run_id = client.accepted("word")
    cluster.simulator.wait(calls=1)
    assert client.http.post(f"/v1/runs/{run_id}/pause").status_code in {200, 202}
    until_status(client, run_id, "paused")
    assert client.http.post(f"/v1/runs/{run_id}/pause").status_code == 409
    assert client.http.post(f"/v1/runs/{run_id}/resume").status_code in {200, 202}
    assert client.ended(run_id)["outputs"] == outputs_of("word")


def test_a_called_run_is_placed_and_its_caller_hears_of_its_end(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.worker()
    child = {"name": "child", "steps": [say("a")], "outputs": {"text": "{{ steps.a.text }}"}}
    assert client.http.post("/v1/workflows", json=child).status_code == 201
    run_id = submit(client, {"id": "call", "type": "workflow", "workflow": "child"}, name="caller")
    run = client.ended(run_id)
    assert run["status"] == "completed", run
    assert len(client.runs()) == 2
    assert all(stored.flaws() == [] for stored in stored_runs(cluster.data_dir).values())


def test_runs_of_one_concurrency_key_are_executed_one_after_another(cluster: Cluster) -> None:
    cluster.simulator.control(latency_ms=100)
    client = cluster.client()
    cluster.worker()
    document = {"name": "one", "steps": [say("a")], "concurrency": {"key": "k", "limit": 1}}
    run_ids = [client.http.post("/v1/runs", json={"workflow": document}).json()["id"] for _ in range(3)]
    assert {client.ended(run_id)["status"] for run_id in run_ids} == {"completed"}
    assert cluster.simulator.stats().max_in_flight == 1
