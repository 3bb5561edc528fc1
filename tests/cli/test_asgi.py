"""`uvicorn app.main:app`, as a process: the same settings, logs and limits as under `serve`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cli.program import SECONDS, environment
from tests.service_process import free_port

CANARY = "sk-canary-5a1f0c9d7e3b"
TELLING = {
    "name": "telling",
    "steps": [{"id": "tell", "type": "action", "action": "log", "message": f"the key is {CANARY}"}],
}
READY_TRIES = 300


@contextmanager
def uvicorn(folder: Path, port: int, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The server as a process; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(port)],
        cwd=folder,
        env=environment(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(SECONDS)


def test_a_variable_that_is_no_setting_is_refused(tmp_path: Path) -> None:
    with uvicorn(tmp_path, free_port(), ORCHESTRATOR_SEVER__PORT="1") as process:
        _, err = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert "ORCHESTRATOR_SEVER__PORT is no setting" in err


def test_logs_are_json_lines_without_secrets(tmp_path: Path) -> None:
    port = free_port()
    with uvicorn(tmp_path, port, OPENAI_API_KEY=CANARY) as process:
        transport = httpx.HTTPTransport(retries=10)
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", transport=transport, trust_env=False, timeout=SECONDS
        ) as client:
            wait_ready(client, process)
            answer = client.post("/v1/runs?wait=30", json={"workflow": TELLING})
            rebound = client.get("/healthz", headers={"Host": "evil.example"})
        process.terminate()
        out, err = process.communicate(timeout=SECONDS)
    assert answer.json()["status"] == "completed"
    assert rebound.status_code == 421
    assert CANARY not in out + err
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert "[redacted]" in err
    assert "run.finished" in {line["event"] for line in lines}


def wait_ready(client: httpx.Client, process: subprocess.Popen[str]) -> None:
    """Wait for the first answer."""
    for _ in range(READY_TRIES):
        assert process.poll() is None
        try:
            client.get("/readyz")
        except httpx.TransportError:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=0.05)
        else:
            return
    raise AssertionError("it does not answer")
