"""API processes and workers whose clocks differ by an hour, or begin to while runs wait."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engines.temporal.cluster import Cluster
from tests.recovery.chain import outputs_of
from tests.recovery.faked_time import faked_time
from tests.recovery.stored import stored_runs
from tests.recovery.test_clock_jumps import DUE, EARLY, HOUR, JUMPS, LATE, one_step, submitted
from tests.simulator.process import Simulator
from tests.temporal_server import start_temporal

pytestmark = pytest.mark.temporal


@pytest.fixture
def cluster(tmp_path: Path, simulator: Simulator) -> Iterator[Cluster]:
    """A cluster without any process of ours yet."""
    folder = tmp_path / "temporal"
    folder.mkdir()
    with start_temporal(folder) as server, ExitStack() as stack:
        yield Cluster(tmp_path, simulator, server, f"q-{uuid.uuid4().hex[:8]}", stack)


@pytest.mark.parametrize(
    "skew", [HOUR, pytest.param(-HOUR, marks=pytest.mark.chaos)], ids=["ahead", "behind"]
)
@pytest.mark.timeout(240)
def test_an_api_whose_clock_is_an_hour_off_places_runs_and_brings_nothing_early(
    cluster: Cluster, tmp_path: Path, skew: int
) -> None:
    clock = faked_time(tmp_path)
    clock.set(skew)
    client = cluster.client(**clock.environment)
    cluster.worker()
    before = time.monotonic()
    waits = submitted(client, one_step("lasts", type="wait", seconds=DUE))
    words = {client.accepted(f"word-{number}"): f"word-{number}" for number in range(5)}
    for run_id, word in words.items():
        assert client.ended(run_id)["outputs"] == outputs_of(word)
    assert client.ended(waits)["status"] == "completed"
    assert DUE - EARLY <= time.monotonic() - before <= DUE + LATE
    runs = stored_runs(cluster.data_dir)
    assert [run.flaws() for run in runs.values() if run.flaws()] == []
    assert Counter(event.type for event in runs[waits].events)["RunWoken"] <= 3


@JUMPS
@pytest.mark.chaos
@pytest.mark.timeout(240)
def test_a_workers_clock_that_is_set_while_its_run_waits_does_not_change_how_long(
    cluster: Cluster, tmp_path: Path, jump: int
) -> None:
    clock = faked_time(tmp_path)
    client = cluster.client()
    cluster.worker(**clock.environment)
    before = time.monotonic()
    waits = submitted(client, one_step("lasts", type="wait", seconds=3 * DUE))
    while client.http.get(f"/v1/runs/{waits}").json()["status"] != "waiting":
        assert time.monotonic() - before < LATE
        time.sleep(0.02)
    clock.set(jump)
    assert client.ended(waits)["status"] == "completed"
    assert 3 * DUE - EARLY <= time.monotonic() - before <= 3 * DUE + LATE
    assert stored_runs(cluster.data_dir)[waits].flaws() == []
