"""A full disk: nothing is acknowledged that is not kept, the process lives, and goes on when there is space.

Twice: on a small file system of its own where this user may mount one, and with a limit on the size of
files, which the kernel lets one set and lift on a running process.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import httpx
import psutil
import pytest

from tests.recovery.chain import STEPS, outputs_of
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import integrity, stored_runs
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

MOUNT_BYTES: Final = 4 * 2**20
RUNS: Final = 10
HEALS_WITHIN: Final = 20.0

Full = Callable[[ServiceProcess, Path], AbstractContextManager[None]]


@contextmanager
def full_file_system(_: ServiceProcess, data_dir: Path) -> Iterator[None]:
    """Write until nothing more fits."""
    filler = data_dir / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def full_by_limit(service: ServiceProcess, data_dir: Path) -> Iterator[None]:
    """No file of the process may grow beyond a size that its write-ahead log has already."""
    process = psutil.Process(service.pid)
    _, hard = process.rlimit(psutil.RLIMIT_FSIZE)
    size = (data_dir / "orchestrator.db-wal").stat().st_size
    process.rlimit(psutil.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.rlimit(psutil.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def small_file_system(folder: Path, *, size: int = MOUNT_BYTES, mode: str = "0700") -> Iterator[Path]:
    """A mounted tmpfs, or the reason why there is none."""
    point = folder / "volume"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode}", "tmpfs", str(point)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root; the limit on file sizes is tested anyway")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@pytest.fixture(params=["file_system", "limit"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Full]]:
    """A data directory and how to fill it."""
    if request.param == "limit":
        yield tmp_path / "data", full_by_limit
        return
    with small_file_system(tmp_path) as point:
        yield point, full_file_system


def refused_submission(client: Client) -> httpx.Response:
    """The first answer that is not an acknowledgement; some writes may still have fitted."""
    for number in range(200):
        answer = client.submit(f"refused-{number}")
        if answer.status_code != 202:
            return answer
    raise AssertionError("the disk is not full")


def wait_for_readiness(client: Client, status: int) -> None:
    """/readyz has no event to wait for; it looks at the store at most once a second."""
    end = time.monotonic() + HEALS_WITHIN
    while client.status("/readyz") != status:
        assert time.monotonic() < end, client.checks()
        time.sleep(0.05)


def wait_for_held_outcomes(service: ServiceProcess, simulator: Simulator) -> None:
    """Until the provider has answered and the journal does not take the answers."""
    simulator.wait(answered=3 + RUNS)
    end = time.monotonic() + HEALS_WITHIN
    while service.log().count('"journal.unavailable"') < RUNS:
        assert time.monotonic() < end, service.log()[-4000:]
        time.sleep(0.05)


def test_a_full_disk_refuses_new_runs_keeps_the_acknowledged_and_heals_by_itself(
    services: Services, simulator: Simulator, volume: tuple[Path, Full]
) -> None:
    data_dir, full = volume
    simulator.control(latency_ms=500)
    service = services.ready(data_dir=data_dir)
    with client_of(service) as client:
        client.ended(client.accepted("before"))
        in_flight = [client.accepted(f"in-flight-{number}") for number in range(RUNS)]
        with full(service, data_dir):
            refusal = refused_submission(client)
            assert refusal.status_code == 503, refusal.text
            assert refusal.headers["content-type"] == "application/problem+json"
            assert int(refusal.headers["retry-after"]) >= 1
            wait_for_readiness(client, 503)
            assert client.checks()["store"]["status"] == "failed"
            assert client.status("/healthz") == 200
            wait_for_held_outcomes(service, simulator)
            assert [client.status(f"/v1/runs/{run_id}") for run_id in in_flight] == [200] * RUNS
            assert service.exit_code() is None
        wait_for_readiness(client, 200)
        for number, run_id in enumerate(in_flight):
            assert client.ended(run_id)["outputs"] == outputs_of(f"in-flight-{number}")
        assert client.ended(client.accepted("after"))["status"] == "completed"
        accepted = [run["id"] for run in client.runs()]
        assert all(client.ended(run_id)["status"] == "completed" for run_id in accepted)
    service.kill()
    runs = stored_runs(data_dir)
    assert set(in_flight) <= set(runs)
    assert set(runs) == set(accepted)
    assert {tuple(run.flaws()) for run in runs.values()} == {()}
    by_key = simulator.stats().by_key
    assert all(by_key[f"{run_id}:{step}"] == 1 for run_id in runs for step in STEPS)
    assert integrity(data_dir) == "ok"


def test_a_kill_while_the_disk_is_full_loses_no_acknowledged_run(
    services: Services, simulator: Simulator, volume: tuple[Path, Full]
) -> None:
    data_dir, full = volume
    simulator.control(latency_ms=300)
    service = services.ready(data_dir=data_dir)
    with client_of(service) as client:
        client.ended(client.accepted("before"))
        in_flight = [client.accepted(f"in-flight-{number}") for number in range(RUNS)]
        with full(service, data_dir):
            assert refused_submission(client).status_code == 503
            wait_for_held_outcomes(service, simulator)
            service.kill()
    service = services.ready(data_dir=data_dir)
    with client_of(service) as client:
        for number, run_id in enumerate(in_flight):
            assert client.ended(run_id)["outputs"] == outputs_of(f"in-flight-{number}")
    service.kill()
    runs = stored_runs(data_dir)
    assert {tuple(run.flaws()) for run in runs.values()} == {()}
    assert {run.run_id for run in runs.values() if run.of("AttemptLost")} >= set(in_flight)
    by_key = simulator.stats().by_key
    assert all(1 <= by_key[f"{run_id}:{step}"] <= 2 for run_id in runs for step in STEPS)
    assert integrity(data_dir) == "ok"


def test_a_process_that_stops_and_starts_on_a_full_disk_is_alive_and_not_ready_and_heals_by_itself(
    services: Services, simulator: Simulator, tmp_path: Path
) -> None:
    simulator.control(latency_ms=300)
    with small_file_system(tmp_path) as data_dir:
        grace = {"ORCHESTRATOR_SERVER__DRAIN_SECONDS": "1"}
        service = services.ready(data_dir=data_dir, environment=grace)
        with client_of(service) as client:
            cancelled = client.accepted("cancelled")
            words = {client.accepted(f"word-{number}"): f"word-{number}" for number in range(RUNS)}
        with full_file_system(service, data_dir):
            service.terminate()
            assert service.wait(30) == 0, service.log()[-4000:]
            service = services.start(data_dir=data_dir)
            service.wait_alive()
            with client_of(service) as client:
                wait_for_readiness(client, 503)
                assert client.checks()["store"]["status"] == "failed"
                assert client.status("/healthz") == 200
                refusal = client.http.post(f"/v1/runs/{cancelled}/cancel")
                assert refusal.status_code == 503, refusal.text
                assert int(refusal.headers["retry-after"]) >= 1
        with client_of(service) as client:
            wait_for_readiness(client, 200)
            assert client.ended(cancelled)["status"] == "cancelled"
            outputs = {run_id: client.ended(run_id)["outputs"] for run_id in words}
        assert outputs == {run_id: outputs_of(word) for run_id, word in words.items()}
        service.kill()
