"""Runs that repeat others, killed on their way: what was taken over stays, and is called by nobody."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.recovery.chain import outputs_of
from tests.recovery.services import Services, client_of
from tests.recovery.stored import stored_runs
from tests.simulator.process import Simulator

FOREVER_MS: Final = 60_000


@pytest.mark.parametrize(
    ("operation", "body", "called"), [("retry", None, "third"), ("rerun", {"from": "second"}, "second")]
)
def test_a_killed_repetition_goes_on_without_a_call_for_what_it_took_over(
    services: Services, simulator: Simulator, operation: str, body: Any, called: str
) -> None:
    service = services.ready()
    with client_of(service) as client:
        if operation == "retry":
            simulator.control(latency_ms=100)
            first = client.accepted("word")
            simulator.wait(calls=3)
            assert client.http.post(f"/v1/runs/{first}/cancel").status_code == 202
        else:
            first = client.accepted("word")
        client.ended(first)
        simulator.reset()
        simulator.control(latency_ms=FOREVER_MS)
        answer = client.http.post(f"/v1/runs/{first}/{operation}", json=body)
        assert answer.status_code == 202, answer.text
        second = answer.json()["id"]
        simulator.wait(calls=1)
    service.kill()
    simulator.control(latency_ms=0)
    service = services.ready()
    with client_of(service) as client:
        run = client.ended(second)
    assert run["status"] == "completed"
    assert run["outputs"] == outputs_of("word")
    assert run["parent_run_id"] == first
    taken = [step["path"] for step in run["steps"] if step["source"]]
    assert taken == ["first", "second", "third"][: ["first", "second", "third"].index(called)]
    assert run["reused"]["steps"] == len(taken)
    keys = simulator.stats().by_key
    assert keys[f"{second}:{called}"] == 2
    assert not [key for key in keys if key.removeprefix(f"{second}:") in taken]
    service.kill()
    stored = stored_runs(services.data_dir)
    assert not stored[second].flaws()
    assert not stored[first].flaws()
