"""Cancelling a run closes the socket of its call to the provider, at once and without a leak."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import psutil
import pytest

from tests.recovery.services import Client, Services, client_of
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator
from tests.stopwatch import Stopwatch

CLOSED_WITHIN: Final = 0.5
FOREVER_MS: Final = 60_000


def calls_at(service: ServiceProcess, simulator: Simulator) -> int:
    """Connections that the service holds to the provider."""
    connections = psutil.Process(service.pid).net_connections("tcp")
    return sum(getattr(it.raddr, "port", None) == simulator.port for it in connections)


def cancel(client: Client, run_id: str) -> Mapping[str, Any]:
    answer = client.http.post(f"/v1/runs/{run_id}/cancel")
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


@pytest.mark.quiet
def test_the_provider_sees_the_socket_close_within_half_a_second(
    services: Services, simulator: Simulator
) -> None:
    simulator.control(latency_ms=FOREVER_MS)
    delays = []
    service = services.ready()
    with client_of(service) as client:
        for number in range(10):
            run_id = client.accepted(f"word-{number}")
            simulator.wait(calls=number + 1)
            with Stopwatch() as watch:
                asked = time.monotonic()
                cancel(client, run_id)
                aborted = simulator.wait(aborted=number + 1).aborted[-1]
                assert aborted["key"] == f"{run_id}:first"
                delays.append(aborted["at"] - asked - watch.stood_still)
            assert client.ended(run_id)["status"] == "cancelled"
    assert len(delays) == 10
    assert max(delays) <= CLOSED_WITHIN, delays
    assert simulator.stats().answered == 0


@pytest.mark.parametrize("at_once", [False, True])
def test_two_hundred_cancels_leak_no_connection(
    services: Services, simulator: Simulator, at_once: bool
) -> None:
    service = services.ready()
    with client_of(service) as client:
        client.ended(client.accepted("before"))
        baseline = calls_at(service, simulator)
        simulator.reset()
        simulator.control(latency_ms=FOREVER_MS)
        batch = 100 if at_once else 1
        for first in range(0, 200, batch):
            runs = [client.accepted(f"word-{first + number}") for number in range(batch)]
            simulator.wait(calls=first + batch)
            for run_id in runs:
                cancel(client, run_id)
            simulator.wait(aborted=first + batch)
        assert all(client.ended(run["id"])["status"] == "cancelled" for run in client.runs()[:100])
        assert simulator.stats().calls == 200
        assert calls_at(service, simulator) <= max(baseline, 1)

        simulator.control(latency_ms=0)
        assert client.ended(client.accepted("after"))["status"] == "completed"
