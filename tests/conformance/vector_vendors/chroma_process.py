"""A real Chroma server as a process, on a free port of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from tests.conftest import require_or_skip

ROOT: Final = Path(__file__).resolve().parents[3]
START_SECONDS: Final = 60.0


@contextlib.contextmanager
def chroma_process() -> Iterator[str]:
    """A running server: its base URL. It is ended, and its data deleted, with the context."""
    program = _program()
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        command = [program, "run", "--path", folder, "--host", "127.0.0.1", "--port", str(port)]
        log = Path(folder) / "chroma.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ANONYMIZED_TELEMETRY": "False", "RUST_LOG": "error"},
            )
        try:
            _wait_until_it_answers(f"http://127.0.0.1:{port}", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _program() -> str:
    named = os.environ.get("ORCHESTRATOR_CHROMA") or str(ROOT / ".tools" / "chroma" / "bin" / "chroma")
    program = shutil.which(named)
    if program is None:
        require_or_skip(
            "there is no Chroma server", "run `make setup-chroma`, or set ORCHESTRATOR_CHROMA to the program"
        )
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the Chroma server ended: {log.read_text(errors='replace')[-2000:]}")
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/api/v2/heartbeat", trust_env=False).is_success:
                return
        time.sleep(0.1)
    raise RuntimeError("the Chroma server did not start in time")
