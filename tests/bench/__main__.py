"""`make bench`: the service beside its floors, in one run on one machine.

Ratios are what counts; the figures of a machine are its own. Nothing is asserted here.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import adapters, vectors, workers
from tests.bench.life import large_map, parked
from tests.bench.processes import (
    QUESTION,
    Load,
    Sample,
    bare_fastapi,
    bench_service,
    floor,
    run_url,
    service_environment,
    under_load,
)
from tests.bench.workloads import WORKLOADS
from tests.postgresql_server import postgres_server
from tests.service_process import ServiceProcess
from tests.simulator.process import start_simulator

console = Console(width=150)
MANY = 1000
PARTS = ("compare", "thousand", "idle", "observability", "map", "parked", "adapters", "temporal", "vectors")
ON_REQUEST = {"vectors", "temporal"}
"""What takes long, and says nothing of the service: measured only when it is named."""


def compare(simulator: str, folder: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every workload at every concurrency: bare floor, service, durable floor, bare FastAPI; in rounds.

    What is shown is the round whose ratio to the durable floor is the median.
    """
    rows = []
    for name in args.workloads:
        for concurrency in args.concurrency:
            # A thousand at once take more than a second each: a short window would hold hardly any.
            seconds = args.seconds * (3 if concurrency >= MANY else 1)
            load = Load(concurrency=concurrency, seconds=seconds, warmup=seconds / 3)
            with (
                bare_fastapi(simulator, name) as handler,
                bench_service(folder / f"{name}-{concurrency}", simulator) as service,
            ):
                rounds = [one_round(simulator, name, load, handler, service) for _ in range(args.rounds)]
            row, ours = sorted(rounds, key=lambda it: it[0]["to_durable"])[(args.rounds - 1) // 2]
            ratios = [it["to_durable"] for it, _ in rounds]
            row |= {"rounds": ratios, "concurrency": concurrency}
            rows.append(row)
            console.print(
                f"{name} at {concurrency}: service {ours.load.per_second:.0f}/s, durable floor "
                f"{row['durable']['per_second']:.0f}/s, ratio {row['to_durable']:.2f}, the median of "
                + " ".join(f"{ratio:.2f}" for ratio in ratios)
            )
            if args.store == "postgresql":
                row |= on_postgresql(simulator, folder / f"{name}-{concurrency}-postgresql", name, load, ours)
    return rows


def one_round(
    simulator: str, name: str, load: Load, handler: tuple[str, int], service: ServiceProcess
) -> tuple[dict[str, Any], Sample]:
    """A workload by each of them, right after one another: what a machine does else changes by the minute."""
    bare = floor("bare", simulator, name, load)
    ours = under_load(run_url(service, name), QUESTION, service.pid, load)
    durable = floor("durable", simulator, name, load)
    url, pid = handler
    handled = under_load(url, QUESTION, pid, load)
    return {
        "workload": name,
        "bare": asdict(bare),
        "durable": asdict(durable),
        "fastapi": asdict(handled),
        "service": asdict(ours),
        "to_durable": _ratio(ours.load.per_second, durable.per_second),
        "to_fastapi": _ratio(ours.load.per_second, handled.load.per_second),
    }, ours


def on_postgresql(simulator: str, folder: Path, name: str, load: Load, sqlite: Sample) -> dict[str, Any]:
    """The same workload over PostgreSQL on this machine, in ratio to what SQLite did a moment ago."""
    with (
        postgres_server(durable=True) as server,
        bench_service(folder, simulator, ORCHESTRATOR_STORE__URL=server.create_database()) as service,
    ):
        before = server.cpu_seconds()
        ours = under_load(run_url(service, name), QUESTION, service.pid, load)
        server_ms = (server.cpu_seconds() - before) / max(ours.load.count, 1) * 1000
    ratio = _ratio(ours.load.per_second, sqlite.load.per_second)
    console.print(
        f"{name} at {load.concurrency} on PostgreSQL: {ours.load.per_second:.0f}/s, ratio to SQLite "
        f"{ratio:.2f}; p50 {ours.load.p50:.1f} ms, CPU a run {ours.cpu_ms:.2f} ms and {server_ms:.2f} ms of "
        f"the database, {ours.load.errors} errors"
    )
    return {"postgresql": asdict(ours), "to_sqlite": ratio, "database_cpu_ms": server_ms}


def thousand(simulator: str, folder: Path) -> dict[str, Any]:
    """1,000 concurrent runs of W2: errors and peak memory."""
    with bench_service(folder / "thousand", simulator) as service:
        load = Load(concurrency=1000, seconds=60, warmup=0, limit=1000)
        once = under_load(run_url(service, "w2"), QUESTION, service.pid, load)
    return {"completed": once.load.count, "errors": once.load.errors, "rss_mib": once.rss_mib}


def idle(simulator: str, folder: Path, repeats: int = 5) -> dict[str, float]:
    """Start-up to the first 200 of /readyz, and memory then."""
    starts, memory = [], []
    for n in range(repeats):
        service = ServiceProcess(folder / f"idle-{n}", environment=service_environment(simulator))
        service.start()
        try:
            starts.append(service.wait_ready())
            memory.append(service.rss_mib())
        finally:
            service.kill()
    return {"ready_seconds": statistics.median(starts), "rss_mib": statistics.median(memory)}


def observability(simulator: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Metrics and tracing (no exporter) on and off, interleaved in one run; CPU ms a run and runs/s.

    Each round has two processes of its own, because two of one version differ by more than what is looked
    for; the first of a round is the other one in the next.
    """
    pairs: list[dict[bool, Sample]] = []
    for number in range(args.interleave):
        order = (True, False) if number % 2 else (False, True)
        pairs.append({on: _observed(simulator, folder / f"{number}-{on}", args.seconds, on) for on in order})
    ratios = [_ratio(pair[True].load.per_second, pair[False].load.per_second) for pair in pairs]
    return {
        "on_per_second": statistics.median(pair[True].load.per_second for pair in pairs),
        "off_per_second": statistics.median(pair[False].load.per_second for pair in pairs),
        "on_cpu_ms": statistics.median(pair[True].cpu_ms for pair in pairs),
        "off_cpu_ms": statistics.median(pair[False].cpu_ms for pair in pairs),
        "cost": 1 - statistics.median(ratios),
    }


def _observed(simulator: str, folder: Path, seconds: float, on: bool) -> Sample:
    with bench_service(folder, simulator, ORCHESTRATOR_TELEMETRY__METRICS=str(on).lower()) as service:
        load = Load(concurrency=64, seconds=seconds)
        return under_load(run_url(service, "w2"), QUESTION, service.pid, load)


def _ratio(ours: float, floor: float) -> float:
    return ours / floor if floor else 0.0


def comparison(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    table = Table(title="runs/s, and the service in detail")
    for column in (
        "workload",
        "at",
        "bare",
        "durable",
        "fastapi",
        "service",
        "÷ durable",
        "÷ fastapi",
        "p50 ms",
        "p95",
        "p99",
        "CPU ms/run",
        "RSS MiB",
        "errors",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        load = row["service"]["load"]
        table.add_row(
            f"{row['workload'].upper()} {WORKLOADS[row['workload']].title}",
            str(row["concurrency"]),
            f"{row['bare']['per_second']:.0f}",
            f"{row['durable']['per_second']:.0f}",
            f"{row['fastapi']['load']['per_second']:.0f}",
            f"{load['per_second']:.0f}",
            f"{row['to_durable']:.2f}",
            f"{row['to_fastapi']:.2f}",
            f"{load['p50']:.1f}",
            f"{load['p95']:.1f}",
            f"{load['p99']:.1f}",
            f"{row['service']['cpu_ms']:.2f}",
            f"{row['service']['rss_mib']:.0f}",
            str(load["errors"]),
        )
    return table


TABLES: dict[str, Callable[[Any], Table]] = {
    "compare": comparison,
    "adapters": adapters.table,
    "vectors": vectors.table,
    "temporal": workers.table,
}
"""Parts that are shown as tables, at the end."""


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS))
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 32, 256, 1000])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of compare")
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--interleave", type=int, default=5)
    parser.add_argument("--only", choices=[*PARTS])
    parser.add_argument("--runs", type=int, default=600, help="temporal: of each measurement")
    parser.add_argument("--stores", nargs="+", default=list(vectors.STORES), help="of vectors")
    parser.add_argument("--counts", nargs="+", type=int, default=list(vectors.COUNTS), help="of vectors")
    parser.add_argument(
        "--dimensions", nargs="+", type=int, default=list(vectors.DIMENSIONS), help="of vectors"
    )
    parser.add_argument("--searches", type=int, default=1000, help="of vectors")
    parser.add_argument(
        "--store", choices=["sqlite", "postgresql"], default="sqlite", help="compare: SQLite, or both"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report: dict[str, Any] = {"python": platform.python_version(), "latency_ms": args.latency_ms}
    with (
        tempfile.TemporaryDirectory() as folder,
        start_simulator(latency_ms=args.latency_ms) as simulator,
    ):
        parts: dict[str, Callable[[], Any]] = {
            "compare": lambda: compare(simulator.url, Path(folder), args),
            "thousand": lambda: thousand(simulator.url, Path(folder)),
            "idle": lambda: idle(simulator.url, Path(folder)),
            "observability": lambda: observability(simulator.url, Path(folder), args),
            "map": lambda: large_map(simulator.url, Path(folder)),
            "parked": lambda: parked(simulator.url, Path(folder)),
            "adapters": lambda: adapters.adapters(simulator.url, args.seconds),
            "temporal": lambda: workers.workers(simulator, Path(folder) / "temporal", args.runs),
            "vectors": lambda: vectors.vectors(args.stores, args.counts, args.dimensions, args.searches),
        }
        for part, measure in parts.items():
            if args.only == part or (args.only is None and part not in ON_REQUEST):
                report[part] = measure()
                if part not in TABLES:
                    console.print(part, report[part])
    for part, table in TABLES.items():
        if part in report:
            console.print(table(report[part]))
    if args.json:
        args.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
