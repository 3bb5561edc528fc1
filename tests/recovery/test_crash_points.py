"""A run of three steps, killed at every point that it passes, and taken up by the next process.

Every case starts with a service that kills itself at one passage of one point, looks at what the dead
process left, starts the service as it ships on the same directory, and holds the end against an
undisturbed run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.recovery.chain import STEPS, outputs_of
from tests.recovery.crashing import CRASH_AT, PASSAGES
from tests.recovery.services import CRASHING, Client, Services, client_of
from tests.recovery.stored import StoredRun, integrity, stored_runs, succeeded_steps
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator

WORD: Final = "ping"
KEY: Final = "the-only-submission"
PLACES: Final = {"create": 1, "commit": 4, "append": 3, "dispatch": 3, "acknowledge": 1}
"""How often an undisturbed run passes each place."""


def points_of(places: Mapping[str, int]) -> list[str]:
    """Both sides of every passage."""
    return [
        f"{place}.{side}:{passage}"
        for place, passages in places.items()
        for passage in range(1, passages + 1)
        for side in ("before", "after")
    ]


POINTS: Final = points_of(PLACES)
TELLING: Final = {
    "create.before:1",
    "create.after:1",
    "commit.before:2",
    "commit.after:4",
    "append.before:2",
    "append.after:3",
    "dispatch.before:2",
    "dispatch.after:3",
    "acknowledge.before:1",
    "acknowledge.after:1",
    # Of recoveries.
    "commit.after:1",
    "dispatch.after:1",
}
"""One on each side of each place; `make chaos` takes the others."""
BEFORE_DURABLE: Final = {"create.before:1", "commit.before:1", "transaction.before:1"}
BEFORE_ACKNOWLEDGED: Final = {
    *BEFORE_DURABLE,
    "create.after:1",
    "commit.after:1",
    "transaction.after:1",
    "acknowledge.before:1",
}
BESIDE_THE_STORE: Final = {"dispatch.before:1"}
"""The first call goes out while the run is stored: it may be durable by then, and acknowledged, or not."""
LATENCY_MS: Final = 100
"""Of the simulator, so that everything after the first call comes after the acknowledgement too."""
RECOVERY_POINTS: Final = [
    f"{place}.{side}:1" for place in ("append", "commit", "dispatch") for side in ("before", "after")
]
"""Of the process that takes up a run whose first answer was lost; from there on it is the usual path."""


def telling_first(points: Sequence[str]) -> list[object]:
    """Points to take one test each; in `make test` only those that tell most."""
    return [point if point in TELLING else pytest.param(point, marks=pytest.mark.chaos) for point in points]


def crashing(services: Services, crash_at: str | None) -> ServiceProcess:
    """A service that will kill itself there."""
    environment = {PASSAGES: str(services.folder / "passages")}
    if crash_at:
        environment[CRASH_AT] = crash_at
    return services.start(command=CRASHING, environment=environment)


def passages(services: Services) -> list[str]:
    return (services.folder / "passages").read_text().split()


def submit(client: Client, key: str | None) -> str | None:
    """The id of the run if the submission was acknowledged before the service died."""
    try:
        return client.accepted(WORD, key=key)
    except httpx.TransportError:
        return None


def killed_at(services: Services, point: str, key: str | None) -> str | None:
    """Let a submission die there; the run's id if it was acknowledged."""
    services.simulator.control(latency_ms=LATENCY_MS)
    service = crashing(services, point)
    service.wait_ready()
    with client_of(service) as client:
        acknowledged = submit(client, key)
    assert service.wait() == -9, service.log()
    assert point in passages(services)
    return acknowledged


def check_sound(run: StoredRun) -> None:
    assert run.flaws() == []
    assert run.status == "completed"
    assert run.outputs == outputs_of(WORD)
    assert run.of("StepSucceeded") == list(STEPS)


def check_calls(
    simulator: Simulator, run: StoredRun, journalled: set[str], calls: dict[str, int], *, crashes: int = 1
) -> None:
    """Nothing that was in the journal was called again, and nothing more often than it was lost."""
    by_key = simulator.stats().by_key
    for step in STEPS:
        key = f"{run.run_id}:{step}"
        if key in journalled:
            assert by_key[key] == calls[key], f"{step} was in the journal and was called again"
        assert 1 <= by_key[key] <= 1 + run.of("AttemptLost").count(step), step
    assert len(run.of("AttemptLost")) <= crashes


def test_the_list_of_points_is_what_an_undisturbed_run_passes(
    services: Services, simulator: Simulator
) -> None:
    pass_every_point(services, simulator, POINTS)


def pass_every_point(services: Services, simulator: Simulator, points: Sequence[str]) -> None:
    """A run that nothing disturbs passes these points and no other."""
    service = crashing(services, None)
    service.wait_ready()
    with client_of(service) as client:
        run_id = client.accepted(WORD, key=KEY)
        assert client.ended(run_id)["outputs"] == outputs_of(WORD)
    service.kill()
    assert sorted(passages(services)) == sorted(points)
    check_calls(simulator, stored_runs(services.data_dir)[run_id], set(), {}, crashes=0)


@pytest.mark.parametrize("point", telling_first(POINTS))
def test_a_run_killed_anywhere_ends_as_if_nothing_had_happened(
    services: Services, simulator: Simulator, point: str
) -> None:
    survive(services, simulator, point)


def survive(services: Services, simulator: Simulator, point: str) -> None:
    """Die there; the next process ends what was durable, and only that."""
    acknowledged = killed_at(services, point, None)
    if point in BEFORE_ACKNOWLEDGED:
        assert acknowledged is None
    elif point not in BESIDE_THE_STORE:
        assert acknowledged is not None
    journalled, calls = succeeded_steps(services.data_dir), dict(simulator.stats().by_key)
    left = list(stored_runs(services.data_dir))
    if point not in BESIDE_THE_STORE:
        assert len(left) == (0 if point in BEFORE_DURABLE else 1)
    if acknowledged:
        assert left == [acknowledged]

    service = services.ready()
    with client_of(service) as client:
        assert [run["id"] for run in client.runs()] == left
        for run_id in left:
            assert client.ended(run_id)["status"] == "completed"
    service.kill()
    for run in stored_runs(services.data_dir).values():
        check_sound(run)
        check_calls(simulator, run, journalled, calls)
    assert integrity(services.data_dir) == "ok"


@pytest.mark.parametrize(
    "point",
    telling_first(sorted((BEFORE_ACKNOWLEDGED | {"acknowledge.after:1", "append.after:1"}) & {*POINTS})),
)
def test_a_submission_repeated_under_its_key_after_the_kill_is_one_run(
    services: Services, simulator: Simulator, point: str
) -> None:
    repeat(services, simulator, point)


def repeat(services: Services, simulator: Simulator, point: str) -> None:
    """Die there; the same submission to the next process is the same run."""
    acknowledged = killed_at(services, point, KEY)
    journalled, calls = succeeded_steps(services.data_dir), dict(simulator.stats().by_key)

    service = services.ready()
    with client_of(service) as client:
        run_id = client.accepted(WORD, key=KEY)
        assert acknowledged in {None, run_id}
        assert client.ended(run_id)["status"] == "completed"
        assert client.accepted(WORD, key=KEY) == run_id
    service.kill()
    runs = stored_runs(services.data_dir)
    assert list(runs) == [run_id]
    check_sound(runs[run_id])
    check_calls(simulator, runs[run_id], journalled, calls)


@pytest.mark.parametrize("point", telling_first(RECOVERY_POINTS))
def test_a_recovery_killed_anywhere_is_recovered(
    services: Services, simulator: Simulator, point: str
) -> None:
    recover(services, simulator, point)


def recover(services: Services, simulator: Simulator, point: str) -> None:
    """Die, and let the process that takes the run up die there."""
    run_id = killed_at(services, "dispatch.after:1", None)
    assert run_id is not None
    (services.folder / "passages").unlink()
    second = crashing(services, point)
    assert second.wait() == -9, second.log()
    journalled, calls = succeeded_steps(services.data_dir), dict(simulator.stats().by_key)

    service = services.ready()
    with client_of(service) as client:
        assert client.ended(run_id)["status"] == "completed"
    service.kill()
    run = stored_runs(services.data_dir)[run_id]
    check_sound(run)
    check_calls(simulator, run, journalled, calls, crashes=2)


def test_the_places_are_described_where_they_are_defined() -> None:
    described = Path(__file__).with_name("crashing.py").read_text()
    assert all(f"| {place} |" in described for place in PLACES)
