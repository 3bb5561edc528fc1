"""Versioned worker deployments: runs go over to a new build between two activities, and none is lost."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.engines.temporal.cluster import Cluster, WorkerProcess
from tests.engines.temporal.flows import say, submit, until_status
from tests.engines.temporal.test_faults import owner_of
from tests.recovery.chain import outputs_of
from tests.recovery.stored import stored_runs
from tests.service_process import free_port

pytestmark = pytest.mark.temporal

RUNS = 4
KNOWN_WITHIN = 30.0


def build(cluster: Cluster, name: str, number: str) -> tuple[WorkerProcess, int]:
    """A worker of that build, and the port of its probes."""
    port = free_port()
    worker = cluster.worker(
        ORCHESTRATOR_TEMPORAL__DEPLOYMENT=name,
        ORCHESTRATOR_TEMPORAL__BUILD_ID=number,
        ORCHESTRATOR_TEMPORAL__HEALTH_PORT=str(port),
    )
    return worker, port


def make_current(cluster: Cluster, name: str, number: str) -> None:
    """As an operator does once workers of that build poll."""
    deadline = time.monotonic() + KNOWN_WITHIN
    command = ("worker", "deployment", "set-current-version", "--deployment-name", name, "--yes")
    while (said := cluster.temporal.ask(*command, "--build-id", number)).returncode:
        assert time.monotonic() < deadline, said.stderr
        time.sleep(0.2)


def ready(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False, timeout=20).status_code == 200


def woken_by(cluster: Cluster, run_id: str) -> str:
    """The process that took the run up again, as `WorkerProcess.identity` has it."""
    events = stored_runs(cluster.data_dir)[run_id].events
    woken = [event for event in events if event.type == "RunWoken"]
    return str(woken[-1].payload["data"]["worker"]).partition("@")[0] + "@"


def test_runs_go_over_to_a_new_build_between_two_activities_and_none_is_lost(cluster: Cluster) -> None:
    name = f"runs-{cluster.namespace}"
    client = cluster.client()
    first, port = build(cluster, name, "1")
    make_current(cluster, name, "1")
    done = client.accepted("done")
    assert client.ended(done)["outputs"] == outputs_of("done")
    assert owner_of(cluster, done) == first.identity
    assert ready(port)
    ask = {"id": "ask", "type": "approval", "message": "?"}
    parked = [
        submit(client, say("a"), {**ask, "depends_on": ["a"]}, say("b", after="ask")) for _ in range(RUNS)
    ]
    for run_id in parked:
        until_status(client, run_id, "waiting")
    cluster.simulator.reset()
    cluster.simulator.control(latency_ms=3000)
    under_way = client.accepted("under way")
    cluster.simulator.wait(calls=1)

    second, port = build(cluster, name, "2")
    make_current(cluster, name, "2")
    cluster.simulator.control(latency_ms=0)
    # What is in the old build's hands ends there; what is between two activities goes over.
    assert client.ended(under_way)["outputs"] == outputs_of("under way")
    assert owner_of(cluster, under_way) == first.identity
    for approval in client.http.get("/v1/approvals").json()["data"]:
        client.http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"}).raise_for_status()
    assert {client.ended(run_id)["status"] for run_id in parked} == {"completed"}
    assert {woken_by(cluster, run_id) for run_id in parked} == {second.identity}
    assert ready(port)
    assert first.terminate() == 0
    after = client.accepted("after")
    assert client.ended(after)["outputs"] == outputs_of("after")
    assert owner_of(cluster, after) == second.identity
    runs = stored_runs(cluster.data_dir)
    assert [run.flaws() for run in runs.values()] == [[]] * (RUNS + 3)
    assert [run.of("AttemptLost") for run in runs.values()] == [[]] * (RUNS + 3)
