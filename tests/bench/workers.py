"""The Temporal engine by its parts: what a run costs with one worker and two, how soon a dead one is missed.

Two workers on a machine that one of them fills prove nothing by their runs a second. What counts is CPU a run
on the executing side: twice the cost of one worker over the cost of two is what two machines could do beside
what one can.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from rich.table import Table

from tests.bench.processes import QUESTION, Load, run_url, under_load
from tests.bench.workloads import WORKLOADS
from tests.engines.temporal.cluster import HEARTBEAT_SECONDS, Cluster, WorkerProcess
from tests.postgresql_server import postgres_server
from tests.recovery.services import client_of
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator
from tests.temporal_server import start_temporal

WORKLOAD: Final = "w2"
CALLERS: Final = 64
WARM_UP: Final = 100
"""Runs before anything is measured."""
SLOW_MS: Final = 30_000
"""A call that does not end by itself while a worker is being missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU milliseconds a run, by who used them."""

    workers: int
    runs: int
    errors: int
    per_second: float
    p50: float
    server_ms: float
    """Temporal's development server."""
    worker_ms: float
    """All workers together."""
    api_ms: float
    database_ms: float


def workers(simulator: Simulator, folder: Path, runs: int) -> dict[str, Any]:
    """Costs with one worker and with two, the ratio of their capacities, and seconds to fail over."""
    with ExitStack() as stack:
        (folder / "temporal").mkdir(parents=True)
        server = stack.enter_context(start_temporal(folder / "temporal"))
        database = stack.enter_context(postgres_server(durable=True))
        cluster = Cluster(folder, simulator, server, "bench", stack)
        cluster.shared["ORCHESTRATOR_STORE__URL"] = database.create_database()
        api = cluster.api()
        with client_of(api) as client:
            for workload in WORKLOADS.values():
                client.http.post("/v1/workflows", json=workload.document).raise_for_status()
        working = [cluster.worker()]
        rows = [costs(api, working, server.pid, database.cpu_seconds, runs)]
        working.append(cluster.worker())
        rows.append(costs(api, working, server.pid, database.cpu_seconds, runs))
        missed = fail_over(cluster, api, working)
    return {
        "rows": [asdict(row) for row in rows],
        "capacity_ratio": 2 * rows[0].worker_ms / rows[1].worker_ms,
        "heartbeat_seconds": HEARTBEAT_SECONDS,
        "fail_over_seconds": missed,
    }


def costs(
    api: ServiceProcess, working: Sequence[WorkerProcess], server: int, database: Any, runs: int
) -> Costs:
    """One closed loop of so many runs, and what everybody used for it."""
    url = run_url(api, WORKLOAD)
    under_load(url, QUESTION, api.pid, Load(concurrency=CALLERS, seconds=120, warmup=0, limit=WARM_UP))
    pids = [worker.process.pid for worker in working]

    def used() -> Sequence[float]:
        return [_cpu([server]), _cpu(pids), _cpu([api.pid]), database()]

    before = used()
    sample = under_load(url, QUESTION, api.pid, Load(concurrency=CALLERS, seconds=300, warmup=0, limit=runs))
    count = max(1, sample.load.count)
    spent = [1000 * (after - was) / count for after, was in zip(used(), before, strict=True)]
    return Costs(
        workers=len(working),
        runs=sample.load.count,
        errors=sample.load.errors,
        per_second=sample.load.per_second,
        p50=sample.load.p50,
        server_ms=spent[0],
        worker_ms=spent[1],
        api_ms=spent[2],
        database_ms=spent[3],
    )


def fail_over(cluster: Cluster, api: ServiceProcess, working: Sequence[WorkerProcess]) -> float:
    """Seconds from a SIGKILL to the first call that another worker makes again."""
    simulator = cluster.simulator
    simulator.reset()
    simulator.control(latency_ms=SLOW_MS)
    with client_of(api) as client:
        for number in range(8):
            client.accepted(f"word-{number}")
    simulator.wait(calls=8, seconds=30)
    working[0].kill()
    killed_at = time.monotonic()
    simulator.wait(calls=9, seconds=60)
    return time.monotonic() - killed_at


def _cpu(pids: Sequence[int]) -> float:
    """Seconds that processes have used, those that they started included."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def table(found: dict[str, Any]) -> Table:
    """For people."""
    ratio, missed = found["capacity_ratio"], found["fail_over_seconds"]
    made = Table(
        title=f"Temporal engine: two workers do {ratio:.2f} times what one does; a killed one is replaced "
        f"after {missed:.1f} s (heartbeat {found['heartbeat_seconds']:g} s)"
    )
    columns = ("workers", "runs", "errors", "runs/s", "p50 ms", "server", "workers' CPU", "API", "database")
    for column in columns:
        made.add_column(column, justify="right")
    for row in found["rows"]:
        made.add_row(
            *(str(row[name]) for name in ("workers", "runs", "errors")),
            f"{row['per_second']:.1f}",
            f"{row['p50']:.0f}",
            *(f"{row[name]:.1f}" for name in ("server_ms", "worker_ms", "api_ms", "database_ms")),
        )
    return made
