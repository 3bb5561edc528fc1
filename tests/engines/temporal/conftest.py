"""What the tests of the Temporal engine share: one server a worker of pytest, a task queue a test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engines.temporal.cluster import Cluster
from tests.postgresql_server import database_of
from tests.simulator.process import Simulator, start_simulator
from tests.temporal_server import TemporalServer, start_temporal


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalServer]:
    """A server that is not to be stopped."""
    with start_temporal(tmp_path_factory.mktemp("temporal")) as server:
        yield server


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[Simulator]:
    """One simulator for all tests of this worker."""
    with start_simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(simulator_process: Simulator) -> Simulator:
    """The simulator, having seen nothing and answering at once."""
    simulator_process.reset()
    simulator_process.control(latency_ms=0)
    return simulator_process


@pytest.fixture
def cluster(tmp_path: Path, simulator: Simulator, temporal: TemporalServer) -> Iterator[Cluster]:
    """Starts processes; whatever still runs at the end is killed."""
    with ExitStack() as stack:
        yield Cluster(tmp_path, simulator, temporal, f"q-{uuid.uuid4().hex[:8]}", stack)


@pytest.fixture
def on_postgresql(cluster: Cluster) -> Cluster:
    """The same with the journal in a new PostgreSQL database; each process has a folder of its own."""
    cluster.shared["ORCHESTRATOR_STORE__URL"] = database_of(cluster.data_dir)
    return cluster
