"""Workers that die, freeze or stop, and a Temporal that goes away: nothing is lost, nothing is repeated."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.program import call
from tests.engines.temporal.cluster import HEARTBEAT_SECONDS, Cluster
from tests.recovery.chain import outputs_of
from tests.recovery.services import client_of
from tests.recovery.stored import integrity, stored_runs, succeeded_steps
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator
from tests.stopwatch import Stopwatch
from tests.temporal_server import start_temporal

pytestmark = pytest.mark.temporal

RUNS = 12
SLOW_MS = 1500
FAIL_OVER_SECONDS = HEARTBEAT_SECONDS + 2


@pytest.fixture
def own_cluster(tmp_path: Path, simulator: Simulator) -> Iterator[Cluster]:
    """A cluster whose Temporal may be stopped."""
    folder = tmp_path / "temporal"
    folder.mkdir()
    with start_temporal(folder) as server, ExitStack() as stack:
        yield Cluster(tmp_path, simulator, server, "own", stack)


def test_a_killed_workers_runs_go_on_elsewhere_and_no_journalled_step_is_repeated(cluster: Cluster) -> None:
    client = cluster.client()
    first, second = cluster.worker(), cluster.worker()
    cluster.simulator.control(latency_ms=SLOW_MS)
    words = {client.accepted(f"word-{number}"): f"word-{number}" for number in range(RUNS)}
    cluster.simulator.wait(calls=RUNS + RUNS // 2, seconds=20)
    first.kill()
    with Stopwatch() as watch:
        journalled = succeeded_steps(cluster.data_dir, live=True)
        calls = dict(cluster.simulator.stats().by_key)
        while max(cluster.simulator.stats().by_key.values()) == 1:
            assert watch.seconds <= FAIL_OVER_SECONDS
    for run_id, word in words.items():
        assert client.ended(run_id)["outputs"] == outputs_of(word)
    second.kill()
    runs = stored_runs(cluster.data_dir)
    assert set(runs) == set(words)
    assert [run.flaws() for run in runs.values()] == [[]] * RUNS
    lost = [event for run in runs.values() for event in run.events if event.type == "AttemptLost"]
    assert len(lost) >= RUNS // 4
    assert all(event.payload["data"]["worker"].startswith(second.identity) for event in lost)
    after = cluster.simulator.stats().by_key
    assert len(journalled) >= RUNS // 2
    assert [key for key in journalled if after[key] != calls[key]] == []
    assert integrity(cluster.data_dir) == "ok"


def test_a_frozen_worker_loses_its_run_and_writes_nothing_when_it_thaws(cluster: Cluster) -> None:
    client = cluster.client()
    workers = [cluster.worker(), cluster.worker()]
    cluster.simulator.control(latency_ms=3000)
    run_id = client.accepted("word")
    cluster.simulator.wait(calls=1)
    frozen, other = sorted(workers, key=lambda worker: worker.identity != owner_of(cluster, run_id))
    frozen.signal(signal.SIGSTOP)
    with Stopwatch() as watch:
        cluster.simulator.control(latency_ms=15_000)
        cluster.simulator.wait(calls=2, seconds=20)
        assert watch.seconds <= FAIL_OVER_SECONDS
    # Now the answer to the frozen worker waits in its socket, while the other one asks again.
    cluster.simulator.wait(answered=1)
    cluster.simulator.control(latency_ms=0)
    before = len(stored_runs(cluster.data_dir)[run_id].events)
    frozen.signal(signal.SIGCONT)
    frozen.wait_for("run.let_go", "run.fenced")
    assert len(stored_runs(cluster.data_dir)[run_id].events) == before
    assert client.ended(run_id)["outputs"] == outputs_of("word")
    # The thawed worker is no worse for it.
    assert other.terminate() == 0
    again = client.accepted("again")
    assert client.ended(again)["outputs"] == outputs_of("again")
    assert frozen.terminate() == 0
    run = stored_runs(cluster.data_dir)[run_id]
    assert run.flaws() == []
    # On a machine that stands still for longer than a heartbeat, the other worker may lose it for once, too.
    assert set(run.of("AttemptLost")) == {"first"}
    lost = next(event for event in run.events if event.type == "AttemptLost")
    assert lost.payload["data"]["worker"].startswith(other.identity)
    assert run.of("StepSucceeded") == ["first", "second", "third"]


def owner_of(cluster: Cluster, run_id: str) -> str:
    """The process id of the worker that began the run, as `WorkerProcess.identity` has it."""
    events = stored_runs(cluster.data_dir)[run_id].events
    started = next(event for event in events if event.type == "RunStarted")
    return str(started.payload["data"]["worker"]).partition("@")[0] + "@"


def test_a_stopped_worker_hands_its_runs_over_and_exits_clean(cluster: Cluster) -> None:
    client = cluster.client()
    workers = [cluster.worker(ORCHESTRATOR_SERVER__DRAIN_SECONDS="1") for _ in range(2)]
    cluster.simulator.control(latency_ms=20_000)
    run_id = client.accepted("word")
    cluster.simulator.wait(calls=1)
    first, second = sorted(workers, key=lambda worker: worker.identity != owner_of(cluster, run_id))
    cluster.simulator.control(latency_ms=0)
    started = time.monotonic()
    assert first.terminate() == 0
    assert time.monotonic() - started < 10
    assert client.ended(run_id)["outputs"] == outputs_of("word")
    assert time.monotonic() - started < 10
    assert second.terminate() == 0
    run = stored_runs(cluster.data_dir)[run_id]
    assert run.flaws() == []
    assert run.of("AttemptLost") == ["first"]


def test_a_worker_that_drains_lets_short_runs_end(cluster: Cluster) -> None:
    client = cluster.client()
    worker = cluster.worker()
    cluster.simulator.control(latency_ms=700)
    run_id = client.accepted("word")
    cluster.simulator.wait(calls=1)
    assert worker.terminate() == 0
    run = client.ended(run_id)
    assert run["outputs"] == outputs_of("word")
    assert stored_runs(cluster.data_dir)[run_id].of("AttemptLost") == []


def test_runs_are_accepted_while_temporal_is_away_and_executed_when_it_is_back(own_cluster: Cluster) -> None:
    cluster = own_cluster
    client = cluster.client()
    worker = cluster.worker()
    assert client.ended(client.accepted("before"))["outputs"] == outputs_of("before")
    cluster.temporal.stop()
    words = {client.accepted(f"away-{number}"): f"away-{number}" for number in range(RUNS)}
    assert client.status("/readyz") == 200
    time.sleep(2)
    cluster.temporal.start()
    for run_id, word in words.items():
        assert client.ended(run_id)["outputs"] == outputs_of(word)
    assert [run.flaws() for run in stored_runs(cluster.data_dir).values()] == [[]] * (RUNS + 1)
    assert all(json.loads(line)["level"] for line in worker.log().splitlines())


def test_runs_that_an_api_process_could_not_place_before_it_died_are_placed_by_another(
    own_cluster: Cluster,
) -> None:
    cluster = own_cluster
    cluster.temporal.stop()
    service = cluster.api()
    with client_of(service) as first:
        run_id = first.accepted("orphan")
    service.kill()
    cluster.temporal.start()
    client = cluster.client()
    cluster.worker()
    assert client.ended(run_id)["outputs"] == outputs_of("orphan")


def test_a_worker_refuses_runs_of_another_store_and_leaves_them_to_one_that_has_them(
    cluster: Cluster,
) -> None:
    client = cluster.client()
    stranger = cluster.starting(cluster.folder / "elsewhere")
    stranger.wait_ready()
    run_id = client.accepted("word")
    stranger.wait_for("run.not_in_store")
    assert f"run '{run_id}' is not in this worker's store: give the API and its workers" in stranger.log()
    assert client.http.get(f"/v1/runs/{run_id}").json()["status"] == "pending"
    # As Temporal tells it.
    said = cluster.temporal.ask("workflow", "describe", "--workflow-id", run_id, "--output", "json")
    assert "the same store.url, or data_dir" in said.stdout
    cluster.worker()
    assert client.ended(run_id)["outputs"] == outputs_of("word")
    assert stored_runs(cluster.data_dir)[run_id].flaws() == []


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_start_on_another_store_than_the_queues_is_refused(command: str, cluster: Cluster) -> None:
    client = cluster.client()
    run_id = client.accepted("word")
    until_listed(cluster, run_id)
    elsewhere = cluster.folder / "elsewhere"
    ended = call(
        *(command, *(("--port", "0") if command == "serve" else ()), "--data-dir", elsewhere),
        cwd=cluster.folder,
        **{name: it for name, it in cluster.environment().items() if name.startswith("ORCHESTRATOR_")},
    )
    assert ended.code == 3, ended.err
    told = ended.error_lines[-1]
    assert f"task queue '{cluster.namespace}' holds runs of another store, such as '{run_id}'" in told
    assert "set store.url or data_dir to theirs, or temporal.task_queue" in told
    cluster.worker()
    assert client.ended(run_id)["outputs"] == outputs_of("word")


def until_listed(cluster: Cluster, run_id: str) -> None:
    """Temporal lists a workflow a moment after it was started."""
    deadline = time.monotonic() + 20
    query = f"WorkflowId = '{run_id}'"
    while run_id not in cluster.temporal.ask("workflow", "list", "--query", query, "--output", "json").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_process_refuses_a_namespace_that_there_is_not(cluster: Cluster) -> None:
    environment = cluster.environment({"ORCHESTRATOR_TEMPORAL__NAMESPACE": "nowhere"})
    service = ServiceProcess(cluster.data_dir, environment=environment)
    service.start()
    assert service.wait() == 3
    assert "no namespace 'nowhere'" in service.log()
    assert "temporal.namespace" in service.log()
