"""Other disks that fill up: the database server's, that of the vectors, that of a backup."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.postgresql_server import ADDRESS_FILE, PostgresServer, postgres_server
from tests.recovery.chain import outputs_of
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import integrity, stored_runs
from tests.recovery.test_disk_full import (
    RUNS,
    full_file_system,
    refused_submission,
    small_file_system,
    wait_for_readiness,
)
from tests.service_process import ROOT
from tests.simulator.process import Simulator

DATABASE_BYTES: Final = 128 * 2**20
DIMENSIONS: Final = 64


@pytest.fixture
def cramped() -> Iterator[tuple[PostgresServer, Path]]:
    """A database server on a small file system, which is not below a folder that only root can reach."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="pg-full-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder.chmod(0o755)
        volume = stack.enter_context(small_file_system(folder, size=DATABASE_BYTES, mode="0755"))
        yield stack.enter_context(postgres_server(durable=True, within=volume)), volume


@pytest.mark.servers
@pytest.mark.timeout(180)
def test_a_full_disk_of_the_database_refuses_new_runs_keeps_the_acknowledged_and_heals(
    tmp_path: Path, simulator: Simulator, cramped: tuple[PostgresServer, Path]
) -> None:
    server, volume = cramped
    simulator.control(latency_ms=500)
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    (data_dir / ADDRESS_FILE).write_text(server.create_database(), encoding="utf-8")
    url = (data_dir / ADDRESS_FILE).read_text(encoding="utf-8")
    with ExitStack() as stack:
        service = Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": url}).ready()
        client = stack.enter_context(client_of(service))
        client.ended(client.accepted("before"))
        in_flight = {client.accepted(f"in-flight-{number}"): f"in-flight-{number}" for number in range(RUNS)}
        with full_file_system(service, volume):
            refusal = refused_submission(client)
            assert refusal.status_code == 503, refusal.text
            assert int(refusal.headers["retry-after"]) >= 1
            wait_for_readiness(client, 503)
            assert client.checks()["store"]["status"] == "failed"
            assert client.status("/healthz") == 200
            assert service.exit_code() is None
        # A server that gave up altogether is started by whoever looks after it.
        with suppress(AssertionError):
            server.start()
        wait_for_readiness(client, 200)
        for run_id, word in in_flight.items():
            assert client.ended(run_id)["outputs"] == outputs_of(word)
        assert client.ended(client.accepted("after"))["status"] == "completed"
        accepted = {run["id"] for run in client.runs()}
        assert all(client.ended(run_id)["status"] == "completed" for run_id in accepted)
    runs = stored_runs(data_dir)
    assert set(in_flight) <= accepted == set(runs)
    assert [run.flaws() for run in runs.values() if run.flaws()] == []
    assert integrity(data_dir) == "ok"


def upsert(client: Client, first: int, count: int) -> dict[str, Any]:
    """The run that stored so many vectors, after its end."""
    vectors = [
        {"id": f"v{number}", "vector": [float((number + place) % 7 - 3) for place in range(DIMENSIONS)]}
        for number in range(first, first + count)
    ]
    step: dict[str, Any] = {"id": "fill", "type": "vector_upsert", "database": "embedded", "index": "full"}
    step |= {"vectors": vectors}
    answer = client.http.post("/v1/runs?wait=30", json={"workflow": {"name": "fill", "steps": [step]}})
    assert answer.status_code in {200, 201, 202}, answer.text
    return dict(client.ended(answer.json()["id"]))


@pytest.mark.timeout(180)
def test_vectors_that_do_not_fit_fail_their_step_and_the_others_stay(
    services: Services, tmp_path: Path
) -> None:
    """The journal is elsewhere: on this machine in the same folder, behind a link."""
    with small_file_system(tmp_path) as volume:
        services.data_dir.mkdir()
        (services.data_dir / "vectors.db").symlink_to(volume / "vectors.db")
        service = services.ready()
        with client_of(service) as client:
            assert upsert(client, 0, 20)["status"] == "completed"
            with full_file_system(service, volume):
                failed = [upsert(client, 100 + 200 * number, 200) for number in range(3)]
                assert failed[-1]["status"] == "failed", failed[-1]
                assert client.status("/healthz") == 200
                assert client.ended(client.accepted("meanwhile"))["status"] == "completed"
            assert upsert(client, 1000, 20)["status"] == "completed"
            search: dict[str, Any] = {
                "id": "find",
                "type": "vector_search",
                "database": "embedded",
                "index": "full",
            }
            search |= {"top_k": 50, "query": [float(place % 7 - 3) for place in range(DIMENSIONS)]}
            answer = client.http.post(
                "/v1/runs?wait=30", json={"workflow": {"name": "find", "steps": [search]}}
            )
            found = client.ended(answer.json()["id"])
            assert found["status"] == "completed", found
            ids = {hit["id"] for hit in found["outputs"]["find"]}
        assert {"v0", "v1000"} <= ids, sorted(ids)


def test_a_backup_that_does_not_fit_leaves_nothing_and_says_so(services: Services, tmp_path: Path) -> None:
    service = services.ready()
    with client_of(service) as client:
        client.ended(client.accepted("before"))
        with small_file_system(tmp_path) as volume, full_file_system(service, volume):
            command = [sys.executable, "-m", "app.cli", "backup", str(volume / "monday")]
            done = subprocess.run(
                [*command, "--data-dir", str(services.data_dir)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode != 0
            assert "Traceback" not in done.stderr, done.stderr
            assert "full" in done.stderr, done.stderr
            assert sorted(path.name for path in volume.iterdir()) == ["filler"]
        begun = time.monotonic()
        assert client.ended(client.accepted("after"))["status"] == "completed"
        assert time.monotonic() - begun < 30
