"""One wide map that several workers share."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.engines.temporal.cluster import Cluster, WorkerProcess
from tests.engines.temporal.flows import say, submit, until_status
from tests.recovery.services import Client
from tests.recovery.stored import StoredRun, stored_runs, succeeded_steps

pytestmark = pytest.mark.temporal

ITEMS = 16


def spread(client: Client, *steps: dict[str, Any], count: int = ITEMS, **more: Any) -> str:
    each = {
        "id": "each",
        "type": "map",
        "items": "range(inputs.count) | list",
        "distribute": True,
        "max_concurrency": 6,
        "steps": list(steps),
        **more,
    }
    return submit(client, each, name="spread", inputs={"count": count})


def items_of(cluster: Cluster, run_id: str) -> list[StoredRun]:
    return [run for run in stored_runs(cluster.data_dir).values() if run.run_id != run_id]


def workers_of(items: list[StoredRun]) -> Counter[str]:
    """How many items each process began."""
    begun = (event for run in items for event in run.events if event.type == "RunStarted")
    return Counter(event.payload["data"]["worker"].partition("@")[0] for event in begun)


def count_step() -> dict[str, Any]:
    return {**say("a"), "prompt": "{{ item }} of {{ inputs.count }}"}


def results() -> dict[str, Any]:
    return {"each": [f"{item} of {ITEMS}" for item in range(ITEMS)]}


def own(worker: WorkerProcess) -> str:
    return worker.identity.partition("@")[0]


@pytest.mark.timeout(240)
def test_two_workers_share_the_items_of_one_map(cluster: Cluster) -> None:
    cluster.simulator.control(latency_ms=200)
    client = cluster.client()
    workers = [cluster.worker(), cluster.worker()]
    run_id = spread(client, count_step())
    run = client.ended(run_id)
    assert run["outputs"] == results()
    items = items_of(cluster, run_id)
    assert len(items) == ITEMS
    assert [item.flaws() for item in items] == [[]] * ITEMS
    shared = workers_of(items)
    assert set(shared) == {own(worker) for worker in workers}
    assert min(shared.values()) >= 2
    assert set(cluster.simulator.stats().by_key.values()) == {1}
    # Ends of items are asked for while the run is awake: no signal for each, and no folding at each.
    assert len(stored_runs(cluster.data_dir)[run_id].of("RunParked")) <= 2


@pytest.mark.timeout(240)
def test_items_of_a_killed_worker_go_on_elsewhere_and_no_journalled_step_is_repeated(
    cluster: Cluster,
) -> None:
    cluster.simulator.control(latency_ms=400)
    client = cluster.client()
    first = cluster.worker()
    run_id = spread(client, count_step(), {**say("b", after="a"), "prompt": "{{ steps.a.text }}"})
    cluster.simulator.wait(calls=8, seconds=40)
    cluster.worker()
    first.kill()
    journalled = succeeded_steps(cluster.data_dir, live=True)
    calls = dict(cluster.simulator.stats().by_key)
    assert client.ended(run_id)["outputs"] == results()
    after = cluster.simulator.stats().by_key
    assert journalled
    assert [key for key in journalled if after[key] != calls[key]] == []
    assert [item.flaws() for item in items_of(cluster, run_id)] == [[]] * ITEMS


@pytest.mark.timeout(240)
def test_a_run_whose_items_rest_rests_and_is_woken_by_their_ends(cluster: Cluster) -> None:
    client = cluster.client()
    cluster.worker()
    ask = {"id": "ask", "type": "approval", "message": "May it?"}
    after = {"id": "out", "type": "transform", "expression": "item", "depends_on": "ask"}
    run_id = spread(client, ask, after, count=2)
    until_status(client, run_id, "waiting")
    approvals = client.http.get("/v1/approvals").json()["data"]
    assert len(approvals) == 2
    for approval in approvals:
        answer = client.http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"})
        assert answer.status_code == 200, answer.text
    assert client.ended(run_id)["outputs"] == {"each": [0, 1]}


@pytest.mark.timeout(240)
def test_a_pause_and_a_cancellation_reach_the_items(cluster: Cluster) -> None:
    cluster.simulator.control(latency_ms=60_000)
    client = cluster.client()
    cluster.worker()
    run_id = spread(client, say("a"), say("b", after="a"), count=3)
    cluster.simulator.wait(calls=3, seconds=20)
    assert client.http.post(f"/v1/runs/{run_id}/pause").status_code in {200, 202}
    for item in items_of(cluster, run_id):
        until_status(client, item.run_id, "paused")
    assert client.http.post(f"/v1/runs/{run_id}/cancel").status_code == 202
    assert client.ended(run_id)["status"] == "cancelled"
    assert {item.status for item in items_of(cluster, run_id)} == {"cancelled"}
    cluster.simulator.wait(aborted=3)
