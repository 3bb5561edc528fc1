"""What the recovery tests share: the simulator, and services that call it, all as real processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.recovery.services import Services
from tests.simulator.process import Simulator, start_simulator


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
def services(tmp_path: Path, simulator: Simulator) -> Iterator[Services]:
    """Starts services; whatever still runs at the end is killed."""
    with ExitStack() as stack:
        yield Services(tmp_path, simulator, stack)
