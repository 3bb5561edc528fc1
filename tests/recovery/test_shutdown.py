"""SIGTERM: readiness turns first, streams end, runs end or are handed over, exit code 0.

The grace period is what the settings say; a second signal does not wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import pytest

from tests.recovery.chain import LABEL, STEPS, outputs_of
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import StoredRun, stored_runs, succeeded_steps
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator
from tests.stopwatch import Stopwatch

RUNS: Final = 100
DRAIN: Final = "ORCHESTRATOR_SERVER__DRAIN_SECONDS"
DELAY: Final = "ORCHESTRATOR_SERVER__DRAIN_DELAY_SECONDS"
CLOSING_SECONDS: Final = 10.0
"""Beyond delay and grace: what a loaded machine may take to close everything."""


def fill(client: Client, simulator: Simulator) -> dict[str, str]:
    """A hundred runs in flight, every one at the provider: words by run id."""
    runs = {client.accepted(f"word-{number}"): f"word-{number}" for number in range(RUNS)}
    simulator.wait(calls=RUNS, seconds=30)
    return runs


def wait_until(holds: Callable[[], bool], seconds: float) -> float:
    """Ask again and again, because a process has no event for what is asked; gives the seconds it took."""
    start = time.monotonic()
    while not holds():
        assert time.monotonic() - start < seconds, "it never held"
        time.sleep(0.01)
    return time.monotonic() - start


def terminated(service: ServiceProcess, grace: float) -> None:
    """Wait for an end in order."""
    assert service.wait(grace + CLOSING_SECONDS) == 0, service.log()[-4000:]


def ended_after_a_restart(services: Services) -> Mapping[str, StoredRun]:
    """Every stored run, after the next process had it."""
    service = services.ready()
    with client_of(service) as client:
        for run_id in stored_runs(services.data_dir):
            client.follow(run_id)
    service.kill()
    return stored_runs(services.data_dir)


def check_all_completed(runs: Mapping[str, StoredRun], words: Mapping[str, str]) -> None:
    assert set(runs) == set(words)
    for run_id, run in runs.items():
        assert run.flaws() == []
        assert run.outputs == outputs_of(words[run_id]) == outputs_of(run.labels[LABEL])


def test_runs_that_do_not_end_within_the_grace_period_are_handed_over(
    services: Services, simulator: Simulator
) -> None:
    simulator.control(latency_ms=700)
    service = services.ready(environment={DRAIN: "1", DELAY: "0"})
    with client_of(service) as client:
        words = fill(client, simulator)
        service.terminate()
        terminated(service, grace=1)
    journalled, calls = succeeded_steps(services.data_dir), dict(simulator.stats().by_key)
    assert len(journalled) >= RUNS // 2, "some steps ended during the grace period"
    unfinished = [run for run in stored_runs(services.data_dir).values() if run.status == "running"]
    assert len(unfinished) >= RUNS // 2, "some runs did not end within it"

    simulator.control(latency_ms=0)
    check_all_completed(ended_after_a_restart(services), words)
    after = simulator.stats().by_key
    assert [key for key in journalled if after[key] != calls[key]] == []
    assert all(after[f"{run_id}:{step}"] <= 2 for run_id in words for step in STEPS)


def test_readiness_turns_first_with_the_listener_open_and_runs_end_in_time(
    services: Services, simulator: Simulator
) -> None:
    simulator.control(latency_ms=300)
    service = services.ready(environment={DRAIN: "30", DELAY: "2"})
    with client_of(service) as client:
        words = fill(client, simulator)
        asked = time.monotonic()
        service.terminate()
        turned = wait_until(lambda: client.status("/readyz") == 503, seconds=1.5)
        assert client.checks()["draining"]["status"] == "failed"
        assert client.status("/healthz") == 200
        assert client.status("/v1/runs") == 200
        assert time.monotonic() - asked < 2, f"too late to see the listener open; readiness took {turned}"
    terminated(service, grace=30)
    runs = stored_runs(services.data_dir)
    check_all_completed(runs, words)
    assert all(count == 1 for count in simulator.stats().by_key.values())


def test_open_event_streams_are_ended(services: Services, simulator: Simulator) -> None:
    simulator.control(latency_ms=60_000)
    service = services.ready(environment={DRAIN: "0.2", DELAY: "0"})
    seen: list[str] = []
    first = threading.Event()

    with client_of(service) as client:
        run_id = client.accepted("word")

        def read() -> None:
            with client.http.stream("GET", f"/v1/runs/{run_id}/events") as answer:
                for line in answer.iter_lines():
                    seen.append(line)
                    first.set()
            seen.append("ended")

        reader = threading.Thread(target=read)
        reader.start()
        assert first.wait(10)
        service.terminate()
        terminated(service, grace=0.2)
        reader.join(5)
    assert seen[-1] == "ended"
    assert "event: step.started" in seen


def test_a_caller_who_waits_for_the_end_is_answered(services: Services, simulator: Simulator) -> None:
    simulator.control(latency_ms=60_000)
    service = services.ready(environment={DRAIN: "0.2", DELAY: "0.5"})
    answers: list[httpx.Response] = []
    with client_of(service) as client:

        def wait() -> None:
            answers.append(client.http.post("/v1/runs?wait=50", json={"workflow": _lone_step()}))

        waiting = threading.Thread(target=wait)
        waiting.start()
        simulator.wait(calls=1)
        service.terminate()
        terminated(service, grace=0.7)
        waiting.join(5)
    assert [answer.status_code for answer in answers] == [202]


def _lone_step() -> dict[str, Any]:
    step = {"id": "only", "type": "llm", "provider": "sim", "model": "echo", "prompt": "hello"}
    return {"name": "lone", "version": "1", "steps": [step]}


def test_a_second_signal_does_not_wait_for_the_grace_period(services: Services, simulator: Simulator) -> None:
    simulator.control(latency_ms=60_000)
    service = services.ready(environment={DRAIN: "60", DELAY: "0.5"})
    with client_of(service) as client:
        run_id = client.accepted("word")
        simulator.wait(calls=1)
        service.terminate()
        wait_until(lambda: client.status("/readyz") == 503, seconds=5)
        with Stopwatch() as watch:
            service.terminate()
            service.wait(CLOSING_SECONDS)
            assert watch.seconds < 5
    simulator.control(latency_ms=0)
    check_all_completed(ended_after_a_restart(services), {run_id: "word"})


@pytest.mark.quiet
def test_an_idle_service_ends_at_once(services: Services) -> None:
    service = services.ready()
    with Stopwatch() as watch:
        service.terminate()
        assert service.wait() == 0
        assert watch.seconds < 3
