"""The ways to run the service, each as real processes: what a caller sees of them is the same.

A way is a row of `WAYS`. Under Temporal the process that is called does not lead, and runs go to two workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import httpx
import pytest

from tests.engines.temporal.cluster import READY_SECONDS, Cluster
from tests.postgresql_server import database_of
from tests.service_process import ServiceProcess, free_port, running_service
from tests.simulator.process import Simulator
from tests.temporal_server import start_temporal

WORKERS: Final = 2
STORE: Final = "ORCHESTRATOR_STORE__URL"
HEARTBEAT: Final = "ORCHESTRATOR_TEMPORAL__HEARTBEAT_SECONDS"
PROBES: Final = "ORCHESTRATOR_TEMPORAL__HEALTH_PORT"


class _Writes(Protocol):
    def log(self) -> str:
        """Everything that a process wrote."""


@dataclass(frozen=True, slots=True)
class Installation:
    """One service, of however many processes."""

    way: str
    url: str
    """Of the process that is called."""
    processes: Sequence[_Writes]
    probes: Sequence[str]
    """Where each process serves its metrics."""

    def log(self) -> str:
        """Everything that any of them wrote."""
        return "".join(process.log() for process in self.processes)

    def metrics(self) -> str:
        """What an operator who scrapes all of them has."""
        return "".join(
            httpx.get(f"{url}/metrics", trust_env=False).raise_for_status().text for url in self.probes
        )


Start = Callable[[Path, Simulator, Mapping[str, str]], AbstractContextManager[Installation]]
"""In a folder of its own, with these settings."""


@contextmanager
def _embedded(way: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Installation]:
    with running_service(folder / "data", environment=settings) as process:
        yield Installation(way, process.url, [process], [process.url])


def _on_sqlite(
    folder: Path, _vendor: Simulator, settings: Mapping[str, str]
) -> AbstractContextManager[Installation]:
    return _embedded("sqlite", folder, settings)


def _on_postgresql(
    folder: Path, _vendor: Simulator, settings: Mapping[str, str]
) -> AbstractContextManager[Installation]:
    return _embedded("postgresql", folder, {**settings, STORE: database_of(folder / "data")})


@contextmanager
def _on_temporal(folder: Path, vendor: Simulator, settings: Mapping[str, str]) -> Iterator[Installation]:
    with ExitStack() as stack:
        server = stack.enter_context(start_temporal(folder))
        # The default, not that of tests which wait for a worker to be given up: here none is.
        shared = {**settings, STORE: database_of(folder / "data"), HEARTBEAT: "5"}
        cluster = Cluster(folder, vendor, server, "acceptance", stack, shared)
        apis = [cluster.beginning(), cluster.beginning()]
        ports = [str(free_port()) for _ in range(WORKERS)]
        # One folder, because the embedded vectors are there.
        workers = [cluster.starting(cluster.data_dir, **{PROBES: port}) for port in ports]
        for api in apis:
            api.wait_ready(READY_SECONDS)
        for worker in workers:
            worker.wait_ready()
        probes = [*(api.url for api in apis), *(f"http://127.0.0.1:{port}" for port in ports)]
        called = next(api for api in apis if not _leads(api))
        yield Installation("temporal", called.url, [*apis, *workers], probes)


def _leads(api: ServiceProcess) -> bool:
    ready = httpx.get(f"{api.url}/readyz", trust_env=False).json()
    return bool(ready["checks"]["executor"]["detail"] == "executor")


WAYS: Final[Mapping[str, Start]] = {
    "sqlite": _on_sqlite,
    "postgresql": _on_postgresql,
    "temporal": _on_temporal,
}
MARKS: Final = {"postgresql": [pytest.mark.servers], "temporal": [pytest.mark.servers, pytest.mark.temporal]}


def ways() -> list[object]:
    """Parameters of a fixture: all ways, each kept on one worker of pytest."""
    return [
        pytest.param(way, marks=[pytest.mark.xdist_group(f"run on {way}"), *MARKS.get(way, [])])
        for way in WAYS
    ]
