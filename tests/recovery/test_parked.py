"""Runs that wait hold no memory: a start among thousands of them, and those that are due in time."""

from __future__ import annotations

from tests.bench.life import parked
from tests.recovery.services import Services


def test_a_start_among_parked_runs_is_quick_and_wakes_only_those_that_are_due(services: Services) -> None:
    found = parked(services.simulator.url, services.folder, waiting=5_000, due=50, soon=4.0)
    assert found["woken"] == 50
    assert found["late_p50_seconds"] >= 0, "a run was woken too early"
    assert found["rss_mib"] < 150
