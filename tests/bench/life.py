"""What is not throughput of small runs: a map over many items, and many runs that wait."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from tests.bench.processes import service_environment
from tests.service_process import ROOT, ServiceProcess, running_service

ITEMS: Final = 10_000
WAITING: Final = 100_000
DUE: Final = 1_000
SOON: Final = 20.0
"""Seconds until those that are due are due: time enough to store the others and to start."""
MAP: Final[dict[str, Any]] = {
    "name": "many",
    "steps": [
        {
            "id": "each",
            "type": "map",
            "items": "inputs.items",
            "max_concurrency": 64,
            "steps": [{"id": "same", "type": "transform", "expression": "item"}],
        }
    ],
    "outputs": {"count": "{{ steps.each.results | length }}"},
}


def large_map(simulator: str, folder: Path) -> dict[str, Any]:
    """A map of a step that does nothing: items/s at a tenth and the whole, and what it adds to memory."""
    rates: dict[str, float] = {}
    with running_service(folder / "map", environment=service_environment(simulator)) as service:
        run_map(service, 100)
        before = service.rss_mib()
        peak = before
        for items in (ITEMS // 10, ITEMS):
            rates[f"{items}_items_per_second"] = items / run_map(service, items)
            peak = max(peak, service.rss_mib())
    return {**rates, "added_rss_mib": peak - before}


def run_map(service: ServiceProcess, items: int) -> float:
    """Seconds from submission to the end."""
    start = time.perf_counter()
    body = {"workflow": MAP, "inputs": {"items": list(range(items))}}
    answer = httpx.post(f"{service.url}/v1/runs?wait=60", json=body, timeout=90, trust_env=False)
    seconds = time.perf_counter() - start
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"] == {"count": items}
    return seconds


def parked(
    simulator: str, folder: Path, *, waiting: int = WAITING, due: int = DUE, soon: float = SOON
) -> dict[str, Any]:
    """Start on a store full of runs that wait, and the end of those that are due soon after."""
    data_dir = folder / "parked"
    woken = fill(data_dir, waiting, due, soon)
    service = ServiceProcess(data_dir, environment=service_environment(simulator))
    service.start()
    try:
        ready = service.wait_ready()
        rss = service.rss_mib()
        with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
            waits = client.get("/v1/runs?status=waiting&limit=1").raise_for_status().json()["data"]
            late = [lateness(client, run_id) for run_id in woken]
        assert waits, "everything was due already"
        return {
            "waiting": waiting,
            "ready_seconds": ready,
            "rss_mib": rss,
            "woken": len(late),
            "late_p50_seconds": sorted(late)[len(late) // 2],
            "late_max_seconds": max(late),
            "rss_after_mib": service.rss_mib(),
        }
    finally:
        service.kill()


def lateness(client: httpx.Client, run_id: str) -> float:
    """Seconds that a run ended after it was due. It waits for the end."""
    while True:
        run = client.get(f"/v1/runs/{run_id}").raise_for_status().json()
        if run["status"] == "completed":
            finished = datetime.fromisoformat(run["finished_at"]).timestamp()
            return finished - float(run["inputs"]["until"])
        time.sleep(0.2)


def fill(data_dir: Path, waiting: int, due: int, soon: float) -> list[str]:
    """Store runs that wait; the ids of those that are due soon."""
    numbers = (str(waiting), str(due), str(soon))
    command = [sys.executable, "-m", "tests.bench.parked", str(data_dir), *numbers]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    ids: list[str] = orjson.loads(done.stdout[done.stdout.rindex(b"[") :])
    return ids
