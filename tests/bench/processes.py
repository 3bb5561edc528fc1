"""Starts what a benchmark needs, each in a process of its own, and asks for one measurement."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.bench.closed_loop import Measurement
from tests.bench.workloads import DIMENSIONS, INDEX, WORKLOADS
from tests.service_process import ROOT, ServiceProcess, free_port, running_service

QUESTION = {"inputs": {"question": "what is a group commit?"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How hard and how long. `limit` bounds the number of runs, 0 does not."""

    concurrency: int
    seconds: float
    warmup: float = 1.0
    limit: int = 0

    def arguments(self) -> list[str]:
        """For the command line of `load` and `floor`."""
        return [
            "--concurrency",
            str(self.concurrency),
            "--seconds",
            str(self.seconds),
            "--warmup",
            str(self.warmup),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement of a server under load, with what it cost."""

    load: Measurement
    cpu_ms: float
    """CPU milliseconds a run, of the serving process."""
    rss_mib: float
    """Peak resident memory while under load."""


def _ask(module: str, *arguments: str) -> Measurement:
    """Run a module that prints a measurement as JSON."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return Measurement(**json.loads(done.stdout))


def floor(mode: str, simulator: str, workload: str, load: Load) -> Measurement:
    """The `bare` or `durable` floor."""
    return _ask("tests.bench.floor", mode, "--base", simulator, "--workload", workload, *load.arguments())


def under_load(url: str, body: Mapping[str, object], pid: int, load: Load) -> Sample:
    """Load a server and watch what it uses."""
    process = psutil.Process(pid)
    peak = _Peak(process)
    before = process.cpu_times()
    arguments = [*load.arguments(), "--limit", str(load.limit)]
    result = _ask("tests.bench.load", url, "--body", json.dumps(body), *arguments)
    after = process.cpu_times()
    rss = peak.stop()
    busy = (after.user - before.user) + (after.system - before.system)
    total = result.count * (1 + (load.warmup / load.seconds if not load.limit else 0))
    return Sample(load=result, cpu_ms=busy / max(total, 1) * 1000, rss_mib=rss)


class _Peak:
    """Watches the resident memory of a process from a thread."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._peak = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self._peak = max(self._peak, self._process.memory_info().rss / 2**20)

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self._peak


@contextmanager
def bare_fastapi(simulator: str, workload: str) -> Iterator[tuple[str, int]]:
    """The handler without an engine: (url, pid)."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.floor", "fastapi"]
    command += ["--base", simulator, "--workload", workload, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        _wait_for(f"http://127.0.0.1:{port}/openapi.json")
        yield f"http://127.0.0.1:{port}/run", process.pid
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(f"{url} does not answer")


def service_environment(simulator: str, **more: str) -> dict[str, str]:
    """Settings of a service that calls the simulator as the provider `sim`."""
    return {
        "ORCHESTRATOR_PROVIDERS__sim__VENDOR": "openai",
        "ORCHESTRATOR_PROVIDERS__sim__BASE_URL": f"{simulator}/v1",
        "ORCHESTRATOR_PROVIDERS__sim__API_KEY": "simulated",
        "ORCHESTRATOR_PROVIDERS__sim__MAX_CONCURRENCY": "10000",
        **more,
    }


@contextmanager
def bench_service(folder: Path, simulator: str, **more: str) -> Iterator[ServiceProcess]:
    """The service with every workload registered and the index of W3 filled."""
    with running_service(folder, environment=service_environment(simulator, **more)) as service:
        with httpx.Client(base_url=service.url, trust_env=False, timeout=30) as client:
            for workload in WORKLOADS.values():
                client.post("/v1/workflows", json=workload.document).raise_for_status()
            client.post("/v1/runs?wait=20", json={"workflow": _fill_index()}).raise_for_status()
        yield service


def _fill_index() -> dict[str, object]:
    vectors = [
        {
            "id": f"doc-{n}",
            "vector": [float((n * 7 + d) % 11 - 5) for d in range(DIMENSIONS)],
            "metadata": {"text": f"Passage {n} on group commit."},
        }
        for n in range(50)
    ]
    step = {"id": "fill", "type": "vector_upsert", "database": "embedded", "index": INDEX, "vectors": vectors}
    return {"name": "fill-index", "steps": [step]}


def run_url(service: ServiceProcess, workload: str) -> str:
    """Where to POST a run and wait for it."""
    return f"{service.url}/v1/workflows/{workload}/runs?wait=60"
