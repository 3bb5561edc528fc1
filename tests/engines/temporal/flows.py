"""Runs of a few steps, submitted to the service, and their way."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.recovery.services import Client

REACHED_WITHIN: Final = 20.0


def say(name: str, *, after: str | None = None) -> dict[str, Any]:
    """A step that asks the simulator."""
    step = {"id": name, "type": "llm", "provider": "sim", "model": "echo", "prompt": f"say {name}"}
    return step if after is None else {**step, "depends_on": [after]}


def submit(client: Client, *steps: dict[str, Any], name: str = "flow", **more: Any) -> str:
    """The id of a run of these steps."""
    document = {"name": name, "steps": list(steps)}
    answer = client.http.post("/v1/runs", json={"workflow": document, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def until_status(client: Client, run_id: str, status: str) -> None:
    """Wait until the run has this status."""
    deadline = time.monotonic() + REACHED_WITHIN
    while (found := client.http.get(f"/v1/runs/{run_id}").json()["status"]) != status:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
