"""What a worker answers to a platform: probes and metrics on a port of its own, if it is given one."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.engines.temporal.cluster import Cluster, WorkerProcess
from tests.engines.temporal.flows import say, submit
from tests.service_process import free_port
from tests.simulator.process import Simulator
from tests.temporal_server import start_temporal

pytestmark = pytest.mark.temporal

CHANGED_WITHIN = 20.0


def probed(cluster: Cluster, **extra: str) -> tuple[WorkerProcess, httpx.Client]:
    """A worker with a port, and a client of it."""
    port = free_port()
    worker = cluster.worker(ORCHESTRATOR_TEMPORAL__HEALTH_PORT=str(port), **extra)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20)
    return worker, cluster.stack.enter_context(http)


def until(http: httpx.Client, status: int) -> Mapping[str, Any]:
    """What each check says once /readyz answers with this status."""
    deadline = time.monotonic() + CHANGED_WITHIN
    while (answer := http.get("/readyz")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    return dict(answer.json()["checks"])


def listening(worker: WorkerProcess) -> list[int]:
    """The ports on which the process listens."""
    connections = psutil.Process(worker.process.pid).net_connections("tcp")
    return [it.laddr.port for it in connections if it.status == psutil.CONN_LISTEN]


def test_a_worker_without_a_port_listens_on_nothing(cluster: Cluster) -> None:
    assert listening(cluster.worker()) == []


def test_a_port_that_is_taken_is_refused(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = cluster.starting(ORCHESTRATOR_TEMPORAL__HEALTH_PORT=str(port))
        assert worker.process.wait(60) == 3
    assert f"cannot listen on 127.0.0.1:{port}" in worker.log()
    assert "--health-host or --health-port" in worker.log()


def test_a_worker_is_alive_and_not_ready_while_temporal_is_away(tmp_path: Path, simulator: Simulator) -> None:
    folder = tmp_path / "temporal"
    folder.mkdir()
    with start_temporal(folder) as server, ExitStack() as stack:
        cluster = Cluster(tmp_path, simulator, server, "own", stack)
        _, http = probed(cluster)
        assert until(http, 200)["temporal"]["detail"] == "asks for runs of task queue 'own'"
        server.stop()
        assert until(http, 503)["temporal"]["status"] == "failed"
        assert http.get("/healthz").status_code == 200
        server.start()
        assert until(http, 200)["store"]["status"] == "ok"


def test_a_worker_that_drains_says_so_until_its_runs_have_ended(cluster: Cluster) -> None:
    cluster.simulator.control(latency_ms=3000)
    client = cluster.client()
    worker, http = probed(cluster)
    run_id = submit(client, say("a"))
    cluster.simulator.wait(calls=1)
    worker.signal(signal.SIGTERM)
    assert until(http, 503)["draining"] == {
        "status": "failed",
        "detail": "the process is shutting down",
        "seconds": 0.0,
    }
    assert http.get("/healthz").status_code == 200
    assert client.ended(run_id)["status"] == "completed"
    assert worker.process.wait(60) == 0


def test_a_worker_counts_the_steps_that_it_executes(cluster: Cluster) -> None:
    client = cluster.client()
    sdk = free_port()
    _, http = probed(cluster, ORCHESTRATOR_TEMPORAL__METRICS_ADDRESS=f"127.0.0.1:{sdk}")
    client.ended(submit(client, say("a"), say("b", after="a")))
    counted = http.get("/metrics").text
    assert 'orchestrator_step_executions_total{status="completed",step_type="llm"} 2.0' in counted
    assert 'orchestrator_workflow_executions_total{status="completed",workflow_name="flow"} 1.0' in counted
    # Temporal's own are served by its SDK.
    theirs = httpx.get(f"http://127.0.0.1:{sdk}/metrics", trust_env=False).text
    assert "temporal_activity_execution_latency" in theirs
    assert f'task_queue="{cluster.namespace}"' in theirs


@pytest.mark.parametrize("path", ["/v1/runs", "/openapi.json"])
def test_a_worker_serves_nothing_else(cluster: Cluster, path: str) -> None:
    _, http = probed(cluster)
    assert http.get(path).status_code == 404
    assert http.get("/readyz", headers={"Host": "evil.example"}).status_code == 421
