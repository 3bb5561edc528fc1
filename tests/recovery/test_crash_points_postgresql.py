"""The crash points of `test_crash_points` on PostgreSQL, and those around its own COMMIT."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from tests.postgresql_server import database_of
from tests.recovery.services import Services
from tests.recovery.test_crash_points import (
    BEFORE_ACKNOWLEDGED,
    PLACES,
    RECOVERY_POINTS,
    pass_every_point,
    points_of,
    recover,
    repeat,
    survive,
)
from tests.simulator.process import Simulator

POINTS: Final = points_of({**PLACES, "transaction": PLACES["commit"]})
TELLING: Final = {"transaction.before:1", "transaction.after:1", "transaction.after:2", "append.before:3"}
"""Those that are worth their time in every run of the tests; the others come with the chaos tests."""


@pytest.fixture
def services(tmp_path: Path, simulator: Simulator) -> Iterator[Services]:
    """Services on one new database."""
    url = database_of(tmp_path / "data")
    with ExitStack() as stack:
        yield Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": url})


def test_the_list_of_points_is_what_an_undisturbed_run_passes(
    services: Services, simulator: Simulator
) -> None:
    pass_every_point(services, simulator, POINTS)


@pytest.mark.parametrize("point", sorted(TELLING))
def test_a_run_killed_at_a_commit_ends_as_if_nothing_had_happened(
    services: Services, simulator: Simulator, point: str
) -> None:
    survive(services, simulator, point)


@pytest.mark.chaos
@pytest.mark.parametrize("point", [point for point in POINTS if point not in TELLING])
def test_a_run_killed_anywhere_ends_as_if_nothing_had_happened(
    services: Services, simulator: Simulator, point: str
) -> None:
    survive(services, simulator, point)


@pytest.mark.chaos
@pytest.mark.parametrize("point", sorted(BEFORE_ACKNOWLEDGED | {"acknowledge.after:1", "append.after:1"}))
def test_a_submission_repeated_under_its_key_after_the_kill_is_one_run(
    services: Services, simulator: Simulator, point: str
) -> None:
    repeat(services, simulator, point)


@pytest.mark.chaos
@pytest.mark.parametrize("point", [*RECOVERY_POINTS, "transaction.before:1", "transaction.after:1"])
def test_a_recovery_killed_anywhere_is_recovered(
    services: Services, simulator: Simulator, point: str
) -> None:
    recover(services, simulator, point)
