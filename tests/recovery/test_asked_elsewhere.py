"""What a process that stands by is asked of runs, the one that executes does; over real processes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.postgresql_server import database_of
from tests.recovery.chain import submission
from tests.recovery.services import ENDS_WITHIN, Client, Services, client_of
from tests.recovery.stored import stored_runs
from tests.recovery.test_cancel import FOREVER_MS
from tests.recovery.test_streams_elsewhere import STORES
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

ASKS: Final = {
    "name": "asks",
    "steps": [{"id": "ask", "type": "approval", "message": "Send it?"}],
    "outputs": {"said": "{{ steps.ask.action }}"},
}


@pytest.fixture(params=STORES)
def both(request: pytest.FixtureRequest, tmp_path: Path, simulator: Simulator) -> Iterator[Services]:
    """Services on one store."""
    shared = {}
    if request.param == "postgresql":
        shared = {"ORCHESTRATOR_STORE__URL": database_of(tmp_path / "data")}
    with ExitStack() as stack:
        yield Services(tmp_path, simulator, stack, shared)


@pytest.fixture
def pair(both: Services) -> tuple[ServiceProcess, ServiceProcess]:
    """An executor and a standby."""
    return started(both, 0), started(both, 1)


def started(services: Services, number: int) -> ServiceProcess:
    """One more process; on PostgreSQL each has a data directory of its own."""
    apart = "ORCHESTRATOR_STORE__URL" in services.settings and number
    return services.ready(data_dir=services.folder / f"data-{number}" if apart else services.data_dir)


def until(client: Client, run_id: str, status: str) -> Mapping[str, Any]:
    """The run, once it is that; a client of whatever process."""
    deadline = time.monotonic() + 30
    while True:
        run: dict[str, Any] = client.http.get(f"/v1/runs/{run_id}").json()
        if run["status"] == status:
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.02)


def test_a_run_is_controlled_by_way_of_the_standby(
    pair: tuple[ServiceProcess, ServiceProcess], simulator: Simulator
) -> None:
    executor, standby = pair
    simulator.control(latency_ms=FOREVER_MS)
    with client_of(executor) as first, client_of(standby) as second:
        assert second.checks()["executor"]["detail"] == "standby"
        run_id = second.accepted("word")
        simulator.wait(calls=1)
        receipt = second.http.post(f"/v1/runs/{run_id}/cancel")
        assert (receipt.status_code, receipt.json()["calls_aborted"]) == (202, ["first"]), receipt.text
        simulator.wait(aborted=1)
        assert second.ended(run_id)["status"] == "cancelled"
        assert second.http.post(f"/v1/runs/{run_id}/cancel").json()["code"] == "run_not_active"

        # A caller of the standby that goes away takes its run with it, as it asked for.
        with pytest.raises(httpx.ReadTimeout):
            second.http.post(
                "/v1/runs?wait=60&on_disconnect=cancel",
                json=submission("left"),
                timeout=httpx.Timeout(30, read=1),
            )
        simulator.wait(aborted=2)

        asks = first.http.post("/v1/runs", json={"workflow": ASKS}).json()["id"]
        until(second, asks, "waiting")
        assert second.http.post(f"/v1/runs/{asks}/pause", json={"reason": "look"}).status_code == 202
        assert until(first, asks, "paused")["pause_reason"] == "look"
        again = second.http.post(f"/v1/runs/{asks}/pause").json()
        assert (again["code"], again["status"]) == ("run_state_conflict", 409)
        assert second.http.post(f"/v1/runs/{asks}/resume").status_code == 202
        [asked] = second.http.get(f"/v1/approvals?run_id={asks}").json()["data"]
        answer = second.http.post(f"/v1/approvals/{asked['id']}", json={"action": "approve"})
        assert answer.status_code == 200, answer.text
        assert second.ended(asks)["outputs"] == {"said": "approve"}
        events = second.follow(asks)
        assert [event["type"] for event in events].count("run.paused") == 1
        assert not any("control" in str(event["data"]) for event in events)


def test_what_is_asked_while_nobody_executes_happens_when_the_standby_takes_over(
    pair: tuple[ServiceProcess, ServiceProcess],
) -> None:
    executor, standby = pair
    with client_of(executor) as first, client_of(standby) as second:
        run_id = first.http.post("/v1/runs", json={"workflow": ASKS}).json()["id"]
        until(second, run_id, "waiting")
        executor.kill()
        # It is there at once or within seconds, when the standby has the lock.
        answer = second.http.post(f"/v1/runs/{run_id}/cancel")
        assert answer.status_code == 202 or answer.json()["code"] == "cancel_pending", answer.text
        assert second.ended(run_id)["status"] == "cancelled"


class Asker:
    """Asks whichever process there is until it is told that what it asks for is so."""

    def __init__(self, processes: Sequence[ServiceProcess], seed: int) -> None:
        self._processes = processes
        """Those that are alive; it changes."""
        self._random = random.Random(seed)

    def insists(self, path: str, body: Mapping[str, Any]) -> None:
        """Until it succeeds; under one key, so nobody may say that it cannot be done any more."""
        headers = {"Idempotency-Key": path}
        deadline = time.monotonic() + ENDS_WITHIN
        while time.monotonic() < deadline:
            url = self._random.choice(self._processes).url
            try:
                answer = httpx.post(
                    f"{url}{path}", json=body, headers=headers, trust_env=False, timeout=ENDS_WITHIN
                )
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if answer.is_success:
                return
            assert answer.status_code == 503 or answer.json()["code"] == "idempotency_key_in_use", answer.text
            time.sleep(0.05)
        raise AssertionError(f"nobody does what {path} asks for")


def insist_through_kills(services: Services, simulator: Simulator, *, kills: int, runs: int) -> None:
    """Runs are paused, resumed and answered by way of either process while whoever executes is killed."""
    processes = [started(services, 0), started(services, 1)]
    asked: dict[str, str] = {}

    def control(number: int, run_id: str) -> None:
        asker = Asker(processes, number)
        asker.insists(f"/v1/runs/{run_id}/pause", {})
        asker.insists(f"/v1/runs/{run_id}/resume", {})
        asker.insists(f"/v1/approvals/{asked[run_id]}", {"action": "approve"})

    for kill in range(kills):
        with client_of(processes[0]) as client:
            ids = [client.http.post("/v1/runs", json={"workflow": ASKS}).json()["id"] for _ in range(runs)]
            for run_id in ids:
                until(client, run_id, "waiting")
                [approval] = client.http.get(f"/v1/approvals?run_id={run_id}").json()["data"]
                asked[run_id] = approval["id"]
        with ThreadPoolExecutor(max_workers=runs) as pool:
            working = [
                pool.submit(control, kill * runs + number, run_id) for number, run_id in enumerate(ids)
            ]
            time.sleep(random.Random(kill).uniform(0.0, 0.3))
            killed = processes[0]
            processes[0] = processes[1]  # it executes from here on
            killed.kill()
            processes[1] = started(services, kill + 2)
            for work in working:
                work.result()
    with client_of(processes[0]) as client:
        for run_id in asked:
            assert client.ended(run_id)["outputs"] == {"said": "approve"}
    for process in processes:
        process.kill()
    stored = stored_runs(services.data_dir)
    assert set(stored) == set(asked)
    assert [run.flaws() for run in stored.values() if run.flaws()] == []
    counted = [Counter(event.type for event in run.events) for run in stored.values()]
    assert {count["ApprovalAnswered"] for count in counted} == {1}
    assert {(count["RunPaused"], count["RunResumed"]) for count in counted} == {(1, 1)}


@pytest.mark.timeout(240)
def test_kills_lose_nothing_that_was_asked(both: Services, simulator: Simulator) -> None:
    insist_through_kills(both, simulator, kills=3, runs=10)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_thirty_kills_lose_nothing_that_was_asked(both: Services, simulator: Simulator) -> None:
    insist_through_kills(both, simulator, kills=30, runs=30)
