"""The clock of a service is set by an hour, while it runs and while it is down: nothing comes early or twice,
and what is due comes within seconds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.postgresql_server import database_of
from tests.recovery.faked_time import FakedTime, faked_time
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import stored_runs
from tests.recovery.test_schedules import SETTINGS, TICK, runs_of, schedule_of
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

HOUR: Final = 3600
DUE: Final = 5.0
"""Seconds after which each of the runs is due."""
EARLY: Final = 0.2
LATE: Final = 45.0
"""Seconds of grace, on a machine that does much else."""

JUMPS: Final = pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["forward", "back"])


@pytest.fixture
def clock(tmp_path: Path) -> FakedTime:
    """The clock of every service of the test."""
    return faked_time(tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.chaos)])
def services(
    request: pytest.FixtureRequest, tmp_path: Path, simulator: Simulator, clock: FakedTime
) -> Iterator[Services]:
    """Services that go by that clock."""
    settings = dict(clock.environment)
    if request.param == "postgresql":
        settings["ORCHESTRATOR_STORE__URL"] = database_of(tmp_path / "data")
    with ExitStack() as stack:
        yield Services(tmp_path, simulator, stack, settings)


def instant(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def one_step(name: str, **step: Any) -> dict[str, Any]:
    return {"workflow": {"name": name, "steps": [{"id": "one", **step}]}}


def after_seconds() -> dict[str, dict[str, Any]]:
    """Submissions of runs that end `DUE` seconds after their beginning, each for another reason."""
    again = {"max_attempts": 2, "initial_delay_ms": round(DUE * 1000), "jitter": "none"}
    model = {"type": "llm", "provider": "sim", "prompt": "word"}
    return {
        "wait": one_step("wait", type="wait", seconds=DUE),
        "approval": one_step(
            "approval", type="approval", message="may it?", timeout_seconds=DUE, on_timeout="reject"
        ),
        "bound": {**one_step("bound", type="wait", seconds=10 * HOUR), "timeout_seconds": DUE},
        "bound-in-memory": {**one_step("busy", model="stall", **model), "timeout_seconds": DUE},
        "retry": one_step("retry", model="flaky", retry=again, **model),
    }


ENDS: Final = {
    "wait": "completed",
    "approval": "completed",
    "bound": "timed_out",
    "bound-in-memory": "timed_out",
    "retry": "completed",
}


def submitted(client: Client, submission: Mapping[str, Any]) -> str:
    answer = client.http.post("/v1/runs", json=submission)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


class Watch:
    """Runs of one service that are waited for together."""

    def __init__(self, service: ServiceProcess) -> None:
        self.service = service
        self.begun: dict[str, tuple[str, float, float]] = {}
        """Ids, and the moments before and after the submission."""

    def begin(self, submissions: Mapping[str, Mapping[str, Any]]) -> None:
        """Submit them."""
        with client_of(self.service) as client:
            for name, submission in submissions.items():
                before = time.monotonic()
                self.begun[name] = submitted(client, submission), before, time.monotonic()

    def ended(self) -> dict[str, tuple[str, float, float]]:
        """How each of them ended, and how many seconds that may have been at most, and at least."""
        with ThreadPoolExecutor(len(self.begun)) as threads:
            return dict(zip(self.begun, threads.map(self._ended, self.begun), strict=True))

    def _ended(self, name: str) -> tuple[str, float, float]:
        run_id, before, after = self.begun[name]
        with client_of(self.service) as client:
            status = str(client.ended(run_id)["status"])
        ended_at = time.monotonic()
        return status, ended_at - before, ended_at - after


def in_time(ended: Mapping[str, tuple[str, float, float]]) -> None:
    """They ended as they should, neither early nor an hour late."""
    assert {name: status for name, (status, _, _) in ended.items()} == {name: ENDS[name] for name in ended}
    assert {name: most for name, (_, most, _) in ended.items() if most < DUE - EARLY} == {}
    assert {name: least for name, (_, _, least) in ended.items() if least > DUE + LATE} == {}


def settled(service: ServiceProcess, *, busy: int = 0) -> None:
    """Wait until nothing happens any more before the first time is over."""
    deadline = time.monotonic() + 60
    with client_of(service) as client:
        while sum(run["status"] in {"pending", "running"} for run in client.runs()) > busy:
            assert time.monotonic() < deadline, client.runs()
            time.sleep(0.02)


def hold_faults(simulator: Simulator) -> None:
    simulator.control(
        faults=[{"match": "flaky", "fault": "server_error", "times": 1}, {"match": "stall", "fault": "stall"}]
    )


@JUMPS
@pytest.mark.timeout(180)
def test_what_lasts_some_seconds_lasts_them_when_the_clock_is_set_meanwhile(
    services: Services, simulator: Simulator, clock: FakedTime, jump: int
) -> None:
    hold_faults(simulator)
    service = services.ready()
    watch = Watch(service)
    watch.begin(after_seconds())
    settled(service, busy=1)
    clock.set(jump)
    in_time(watch.ended())
    service.kill()
    runs = stored_runs(services.data_dir)
    assert [run.flaws() for run in runs.values()] == [[]] * len(ENDS)
    assert all(max(Counter(event.type for event in run.events).values()) <= 3 for run in runs.values())


@pytest.mark.parametrize(
    "jump", [pytest.param(HOUR, marks=pytest.mark.chaos), -HOUR], ids=["forward", "back"]
)
@pytest.mark.timeout(180)
def test_what_waits_for_some_seconds_lasts_them_when_the_clock_is_set_while_nobody_executes(
    services: Services, clock: FakedTime, jump: int
) -> None:
    service = services.ready()
    watch = Watch(service)
    submissions = after_seconds()
    watch.begin({name: submissions[name] for name in ("wait", "approval", "bound")})
    settled(service)
    service.kill()
    clock.set(jump)
    watch.service = services.ready()
    in_time(watch.ended())


def every_second(client: Client) -> str:
    """The path of a schedule; what it missed it does not catch up with."""
    assert client.http.post("/v1/workflows", json=TICK).status_code == 201
    answer = client.http.post("/v1/schedules", json={**SETTINGS, "catch_up": "none"})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["links"]["self"])


def fires_of(client: Client, path: str) -> list[float]:
    """The times for which it has started a run, in the order in which it did."""
    return [
        datetime.fromisoformat(run["labels"]["scheduled_for"]).timestamp()
        for run in runs_of(client, schedule_of(client, path))
    ]


def until(service: ServiceProcess, what: Callable[[Client], bool]) -> None:
    deadline = time.monotonic() + 30
    with client_of(service) as client:
        while not what(client):
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.timeout(180)
def test_a_clock_set_forward_brings_what_it_names_at_once_and_once(
    services: Services, clock: FakedTime
) -> None:
    service = services.ready()
    with client_of(service) as client:
        path = every_second(client)
        waits = submitted(client, one_step("until", type="wait", until=instant(clock.now() + HOUR / 2)))
        key = client.accepted("word", key="one")
        until(service, lambda client: len(fires_of(client, path)) >= 2)
        assert client.http.get(f"/v1/runs/{waits}").json()["status"] == "waiting"
        clock.set(HOUR)
        assert client.ended(waits)["status"] == "completed"
        until(service, lambda client: fires_of(client, path)[-1] > clock.now() - 10)
        assert client.accepted("word", key="one") == key
        fires = fires_of(client, path)
    assert sorted(set(fires)) == fires, "twice, or in another order"
    assert max(fires) <= clock.now() + 1
    assert len(fires) < 60, "it caught up"


@pytest.mark.timeout(180)
def test_a_clock_set_back_brings_nothing_that_it_names_before_its_time_and_nothing_twice(
    services: Services, clock: FakedTime
) -> None:
    service = services.ready()
    with client_of(service) as client:
        path = every_second(client)
        waits = submitted(client, one_step("until", type="wait", until=instant(clock.now() + 6)))
        lasts = submitted(client, one_step("lasts", type="wait", seconds=6))
        key = client.accepted("word", key="one")
        until(service, lambda client: len(fires_of(client, path)) >= 2)
        clock.set(-HOUR)
        assert client.ended(lasts)["status"] == "completed"
        time.sleep(2)  # nothing is to happen, which is no event
        assert client.http.get(f"/v1/runs/{waits}").json()["status"] == "waiting"
        assert client.accepted("word", key="one") == key
        before = fires_of(client, path)
        clock.set(0)  # the clock was right before
        assert client.ended(waits)["status"] == "completed"
        until(service, lambda client: len(fires_of(client, path)) > len(before))
        fires = fires_of(client, path)
    assert len(set(fires)) == len(fires), "twice"
