"""From SQLite to PostgreSQL in the middle of everything: the service goes on there as if nothing had been."""

from __future__ import annotations

import asyncio
import random
import shlex
from contextlib import ExitStack
from pathlib import Path

from tests.cli.program import Ended, call
from tests.postgresql_server import database_of
from tests.recovery.chain import LABEL, outputs_of
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import integrity, stored_runs, succeeded_steps
from tests.recovery.test_backup import documented
from tests.recovery.test_random_kills import end_every_run
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

WAITING = {
    "workflow": {
        "name": "asking",
        "steps": [{"id": "ask", "type": "approval", "message": "May it?"}],
    },
    "labels": {"kind": "asking"},
}


def migrate(services: Services, url: str) -> Ended:
    """Run the command as it is documented."""
    _, *arguments = shlex.split(documented("llm-orchestrator migrate --from sqlite"))
    return call(
        *arguments,
        "--data-dir",
        services.data_dir,
        cwd=services.folder,
        ORCHESTRATOR_STORE__URL=url,
    )


def set_up(client: Client) -> str:
    """A schedule, an endpoint, a workflow, and a run that waits for somebody; the id of the run."""
    workflow = {"name": "daily", "steps": [{"id": "sum", "type": "transform", "expression": "1 + 1"}]}
    client.http.post("/v1/workflows", json=workflow).raise_for_status()
    schedule = {"name": "mornings", "workflow": "daily", "cron": "@daily"}
    client.http.post("/v1/schedules", json=schedule).raise_for_status()
    return str(client.http.post("/v1/runs", json=WAITING).raise_for_status().json()["id"])


async def test_a_growing_service_goes_on_with_every_open_run_on_postgresql(
    services: Services, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.control(latency_ms=600)
    url = database_of(tmp_path / "grown")
    service, ledger = await asyncio.to_thread(services.ready), Ledger()
    with client_of(service) as client:
        waiting = set_up(client)
    crowd = Crowd(service.url, ledger, random.Random(1))
    crowd.up.set()
    async with crowd.submitting():
        await asyncio.sleep(2.0)
        refused = await asyncio.to_thread(migrate, services, url)
    service.kill()
    assert refused.code == 3
    assert "a process executes runs on data_dir" in refused.err

    before, done, calls = (
        stored_runs(services.data_dir),
        succeeded_steps(services.data_dir),
        simulator.stats(),
    )
    moved = await asyncio.to_thread(migrate, services, url)
    assert moved.code == 0, moved.err
    assert f"runs: {len(before)} rows, the same in both" in moved.out
    assert stored_runs(services.data_dir) == before
    assert stored_runs(tmp_path / "grown") == before
    again = await asyncio.to_thread(migrate, services, url)
    assert again.code == 3
    assert "holds rows already" in again.err

    with ExitStack() as stack:
        settings = {"ORCHESTRATOR_STORE__URL": url}
        grown = Services(tmp_path, simulator, stack, settings).ready(data_dir=tmp_path / "grown")
        await asyncio.to_thread(goes_on, grown, waiting)
    ended = stored_runs(tmp_path / "grown")
    assert set(ledger.acknowledged) <= ended.keys()
    assert len([run for run in before.values() if run.status == "running"]) >= 1
    chains = [run for run in ended.values() if LABEL in run.labels]
    assert [run.run_id for run in chains if run.flaws() or run.outputs != outputs_of(run.labels[LABEL])] == []
    after = simulator.stats().by_key
    assert [key for key in done if after.get(key) != calls.by_key.get(key)] == []
    assert integrity(tmp_path / "grown") == "ok"


def goes_on(grown: ServiceProcess, waiting: str) -> None:
    """What was registered is there, what waited is answered, and everything ends."""
    with client_of(grown) as client:
        schedules = client.http.get("/v1/schedules").raise_for_status().json()["data"]
        assert [it["name"] for it in schedules] == ["mornings"]
        (question,) = client.http.get("/v1/approvals").raise_for_status().json()["data"]
        assert question["run_id"] == waiting
        answer = client.http.post(f"/v1/approvals/{question['id']}", json={"action": "approve"})
        answer.raise_for_status()
        assert client.ended(waiting)["status"] == "completed"
    end_every_run(grown)


def test_a_service_that_stands_by_keeps_what_it_accepts(services: Services, tmp_path: Path) -> None:
    executor = services.ready()
    standby = services.ready()
    url = database_of(tmp_path / "grown")
    with client_of(standby) as client:
        client.ended(client.accepted("first"))
        executor.kill()
        refused = migrate(services, url)
        assert refused.code == 3
        assert len(client.runs()) == 1
