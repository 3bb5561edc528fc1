"""What the README promises of crashes, restarts and second processes, seen from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import Caller
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

HELD = "held"
"""The model whose first call is never answered."""
WORKFLOW = {
    "name": "durable",
    "steps": [
        {"id": "first", "type": "llm", "provider": "sim", "model": "m", "prompt": "one"},
        {"id": "second", "type": "llm", "provider": "sim", "model": HELD, "prompt": "{{ steps.first.text }}"},
    ],
}


@pytest.fixture
def service(vendor: Simulator, tmp_path: Path) -> Iterator[ServiceProcess]:
    """A service of this test's own."""
    vendor.reset()
    process = made(vendor, tmp_path / "data")
    process.start()
    process.wait_ready()
    yield process
    process.kill()


def made(vendor: Simulator, data: Path, **more: str) -> ServiceProcess:
    environment = {
        "ORCHESTRATOR_PROVIDERS__SIM__BASE_URL": vendor.base_url,
        "ORCHESTRATOR_SERVER__DRAIN_SECONDS": "0",
        "ORCHESTRATOR_SERVER__DRAIN_DELAY_SECONDS": "0",
    }
    return ServiceProcess(data, environment={**environment, **more})


def held_run(service: ServiceProcess, vendor: Simulator, workflow: dict[str, Any] | None = None) -> str:
    """Submit a run and wait until its second step is in flight and will not be answered."""
    vendor.fail(HELD, "stall", times=1)
    with Caller(service.url) as caller:
        run_id: str = caller.submit(workflow or WORKFLOW).json()["id"]
    vendor.wait(calls=2)
    return run_id


def check_goes_on(service: ServiceProcess, vendor: Simulator, run_id: str) -> None:
    """The run completes here; what was journalled is not called again, what was in flight once more."""
    with Caller(service.url) as caller:
        run = caller.until_ended(run_id)
        attempts = {
            step["path"]: [attempt["outcome"] for attempt in step["attempts"]]
            for step in caller.get(run_id, include="attempts")["steps"]
        }
    assert run["status"] == "completed"
    assert attempts == {"first": ["succeeded"], "second": ["lost", "succeeded"]}
    assert vendor.stats().by_key == {f"{run_id}:first": 1, f"{run_id}:second": 2}


def test_a_killed_service_goes_on_where_it_stood(service: ServiceProcess, vendor: Simulator) -> None:
    run_id = held_run(service, vendor)
    service.kill()
    service.start()
    service.wait_ready()
    check_goes_on(service, vendor, run_id)


def test_a_stopped_service_hands_its_runs_over_and_exits_with_0(
    service: ServiceProcess, vendor: Simulator
) -> None:
    run_id = held_run(service, vendor)
    service.terminate()
    assert service.wait(30) == 0
    service.start()
    service.wait_ready()
    check_goes_on(service, vendor, run_id)


def test_a_step_that_must_not_repeat_does_not_run_twice(service: ServiceProcess, vendor: Simulator) -> None:
    first, second = WORKFLOW["steps"]
    assert isinstance(second, dict)
    run_id = held_run(service, vendor, {"name": "once", "steps": [first, {**second, "retry": "never"}]})
    service.kill()
    service.start()
    service.wait_ready()
    with Caller(service.url) as caller:
        run = caller.until_ended(run_id)
    assert run["status"] == "failed"
    assert run["error"]["error_class"] == "outcome_unknown"
    assert vendor.stats().by_key == {f"{run_id}:first": 1, f"{run_id}:second": 1}


def test_an_idempotency_key_survives_a_kill(service: ServiceProcess, vendor: Simulator) -> None:
    with Caller(service.url) as caller:
        first = caller.submit(WORKFLOW, key="survives")
    service.kill()
    service.start()
    service.wait_ready()
    with Caller(service.url) as caller:
        again = caller.submit(WORKFLOW, key="survives")
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json() == first.json()
        caller.until_ended(again.json()["id"])


def test_a_second_process_stands_by_and_takes_over(service: ServiceProcess, vendor: Simulator) -> None:
    second = made(vendor, service.data_dir)
    second.start()
    try:
        second.wait_ready()
        with Caller(second.url) as caller:
            ready = caller.http.get("/readyz").json()
            assert ready["checks"]["executor"]["detail"] == "standby"
            accepted = caller.submit(
                {"name": "x", "steps": [{"id": "a", "type": "transform", "expression": "1"}]}
            )
            assert caller.until_ended(accepted.json()["id"])["status"] == "completed"
        run_id = held_run(service, vendor)
        service.kill()
        check_goes_on(second, vendor, run_id)
    finally:
        second.kill()
