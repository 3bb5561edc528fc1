"""`python -m tests.engines.temporal.record`: records the Temporal histories of this release.

One file a life of a run below `tests/histories/temporal`. A recording is never replaced: the workflow has to
replay what earlier releases began. A release that changes the workflow adds its own, under its own version.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from tests.engines.temporal.cluster import Cluster
from tests.engines.temporal.flows import say, submit, until_status
from tests.recovery.services import Client
from tests.simulator.process import start_simulator
from tests.temporal_server import TemporalServer, start_temporal

FOLDER: Final = Path(__file__).resolve().parents[2] / "histories" / "temporal"


def straight(client: Client, cluster: Cluster) -> str:
    """A run that ends in one go."""
    run_id = submit(client, say("a"))
    client.ended(run_id)
    return run_id


def waiting(client: Client, cluster: Cluster) -> str:
    """A run that sleeps on a timer of Temporal's."""
    run_id = submit(client, {"id": "pause", "type": "wait", "seconds": 3}, say("b", after="pause"))
    client.ended(run_id)
    return run_id


def answered(client: Client, cluster: Cluster) -> str:
    """A run that sleeps until it is woken."""
    run_id = submit(client, {"id": "ask", "type": "approval", "message": "?"}, say("b", after="ask"))
    until_status(client, run_id, "waiting")
    approval = client.http.get("/v1/approvals").json()["data"][0]
    client.http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"}).raise_for_status()
    client.ended(run_id)
    return run_id


def cancelled(client: Client, cluster: Cluster) -> str:
    """A run that is woken while it is being executed."""
    cluster.simulator.control(latency_ms=30_000)
    run_id = submit(client, say("a"))
    cluster.simulator.wait(in_flight=1)
    client.http.post(f"/v1/runs/{run_id}/cancel").raise_for_status()
    client.ended(run_id)
    cluster.simulator.control(latency_ms=0)
    return run_id


LIVES: Final[Mapping[str, Callable[[Client, Cluster], str]]] = {
    life.__name__: life for life in (straight, waiting, answered, cancelled)
}


def history(temporal: TemporalServer, run_id: str) -> dict[str, Any]:
    """The history of a run's workflow, once it has closed."""
    temporal.ask("workflow", "result", "--workflow-id", run_id).check_returncode()
    said = temporal.ask("workflow", "show", "--workflow-id", run_id, "--output", "json")
    said.check_returncode()
    return dict(json.loads(said.stdout))


def main() -> None:
    """Record every life that this release has no recording of."""
    version = metadata.version("llm-orchestrator")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        (folder / "temporal").mkdir()
        simulator = stack.enter_context(start_simulator())
        server = stack.enter_context(start_temporal(folder / "temporal"))
        cluster = Cluster(folder, simulator, server, "recording", stack)
        client = cluster.client()
        cluster.worker()
        for name, live in LIVES.items():
            target = FOLDER / f"{version}-{name.replace('_', '-')}.json"
            if not target.exists():
                recorded = history(server, live(client, cluster))
                target.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
