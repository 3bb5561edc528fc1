"""The service as a real process, for tests and benchmarks that look at it from outside."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

ROOT = Path(__file__).resolve().parent.parent
READY_SECONDS = 30.0


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServiceProcess:
    """One `llm-orchestrator serve`. Log lines go to `<data_dir>/../service.log`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = ("-m", "app.cli", "serve"),
        port: int | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir.with_suffix(".log")
        self._command = [sys.executable, *command, "--port", str(self.port), "--data-dir", str(data_dir)]
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ORCHESTRATOR_")},
            **(environment or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None, "the service was not started"
        return self._process.pid

    def start(self) -> None:
        """Start without waiting."""
        with self.log_path.open("ab") as log:
            self.started_at = time.perf_counter()
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    def wait_ready(self, seconds: float = READY_SECONDS) -> float:
        """Wait for the first 200 of /readyz; gives the seconds since the start."""
        return self._wait_for("/readyz", seconds)

    def wait_alive(self, seconds: float = READY_SECONDS) -> float:
        """The same for /healthz: it answers, ready or not."""
        return self._wait_for("/healthz", seconds)

    def _wait_for(self, path: str, seconds: float) -> float:
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            while True:
                elapsed = time.perf_counter() - self.started_at
                if self.exit_code() is not None or elapsed > seconds:
                    raise AssertionError(f"{path} is not 200:\n{self.log()[-4000:]}")
                try:
                    if client.get(path, timeout=5.0).status_code == 200:
                        return time.perf_counter() - self.started_at
                except httpx.TransportError:
                    pass
                time.sleep(0.01)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def kill(self) -> None:
        """SIGKILL, and wait."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        assert self._process is not None
        self._process.terminate()

    def wait(self, seconds: float = 60.0) -> int:
        """Wait for the end; gives the exit code."""
        assert self._process is not None
        return self._process.wait(timeout=seconds)

    def log(self) -> str:
        """Everything it wrote."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def cpu_seconds(self) -> float:
        """CPU time used so far, user and system."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss_mib(self) -> float:
        """Resident memory now."""
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20


@contextmanager
def running_service(
    data_dir: Path, *, environment: Mapping[str, str] | None = None
) -> Iterator[ServiceProcess]:
    """A ready service; killed at the end if it still runs."""
    service = ServiceProcess(data_dir, environment=environment)
    service.start()
    try:
        service.wait_ready()
        yield service
    finally:
        service.kill()
