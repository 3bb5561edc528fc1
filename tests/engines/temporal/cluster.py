"""A Temporal server, API processes and workers of one test, all real processes on one data directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bench.processes import service_environment
from tests.recovery.services import Client, client_of
from tests.service_process import ROOT, ServiceProcess
from tests.simulator.process import Simulator
from tests.temporal_server import TemporalServer

WORK: Final = ("-m", "app.cli", "worker")
READY: Final = "worker.ready"
READY_SECONDS: Final = 90.0
"""Several processes start together, on a machine that does much else."""
HEARTBEAT_SECONDS: Final = 2.0


@dataclass(slots=True)
class WorkerProcess:
    """One `llm-orchestrator worker`."""

    name: str
    log_path: Path
    process: subprocess.Popen[bytes]

    @property
    def identity(self) -> str:
        """As it stands in journals, up to the host name."""
        return f"{self.process.pid}@"

    def log(self) -> str:
        """Everything it wrote."""
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait until it takes runs."""
        self.wait_for(READY, seconds=seconds)

    def wait_for(self, *events: str, seconds: float = READY_SECONDS) -> None:
        """Wait until it logs one of these events."""
        deadline = time.monotonic() + seconds
        while not any(event in self.log() for event in events):
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"the worker says none of {events!r}:\n{self.log()[-4000:]}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self, seconds: float = 60.0) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)


@dataclass(slots=True)
class Cluster:
    """Starts processes below `folder`; they are killed when the stack is unwound."""

    folder: Path
    simulator: Simulator
    temporal: TemporalServer
    namespace: str
    stack: ExitStack
    shared: dict[str, str] = field(default_factory=dict)
    """Settings of every process."""
    _workers: int = field(default=0)

    @property
    def data_dir(self) -> Path:
        """Where the store is."""
        return self.folder / "data"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Of every process."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")},
            **service_environment(self.simulator.url),
            "ORCHESTRATOR_ENGINE": "temporal",
            "ORCHESTRATOR_TEMPORAL__ADDRESS": self.temporal.address,
            "ORCHESTRATOR_TEMPORAL__TASK_QUEUE": self.namespace,
            "ORCHESTRATOR_TEMPORAL__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
            **self.shared,
            **(extra or {}),
        }

    def api(self, **extra: str) -> ServiceProcess:
        """A ready API process."""
        service = self.beginning(**extra)
        service.wait_ready()
        return service

    def beginning(self, **extra: str) -> ServiceProcess:
        """An API process that was started, whatever comes of it."""
        service = ServiceProcess(self.data_dir, environment=self.environment(extra))
        service.start()
        self.stack.callback(service.kill)
        return service

    def client(self, **extra: str) -> Client:
        """A client of a new API process."""
        return self.stack.enter_context(client_of(self.api(**extra)))

    def worker(self, **extra: str) -> WorkerProcess:
        """A worker that takes runs."""
        worker = self.starting(**extra)
        worker.wait_ready()
        return worker

    def starting(
        self, data_dir: Path | None = None, /, *, program: Sequence[str] = WORK, **extra: str
    ) -> WorkerProcess:
        """A worker that was started, whatever comes of it."""
        self._workers += 1
        name = f"worker-{self._workers}"
        log_path = self.folder / f"{name}.log"
        # What is in PostgreSQL needs no common folder.
        usual = self.folder / name if "ORCHESTRATOR_STORE__URL" in self.shared else self.data_dir
        data_dir = data_dir or usual
        command = [sys.executable, *program, "--data-dir", str(data_dir)]
        with log_path.open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=self.environment(extra), stdout=log, stderr=log)
        worker = WorkerProcess(name, log_path, process)
        self.stack.callback(worker.kill)
        return worker
