"""What a process that stands by is asked of runs, the one that executes does; over real processes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.postgresql_server import database_of
from tests.recovery.chain import submission
from tests.recovery.services import Client, Services, client_of
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
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, simulator: Simulator
) -> Iterator[tuple[ServiceProcess, ServiceProcess]]:
    """An executor and a standby."""
    shared = {}
    if request.param == "postgresql":
        shared = {"ORCHESTRATOR_STORE__URL": database_of(tmp_path / "data")}
    with ExitStack() as stack:
        services = Services(tmp_path, simulator, stack, shared)
        first = services.ready()
        yield first, services.ready(data_dir=tmp_path / "standby" if shared else services.data_dir)


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
