"""SIGKILL at random moments where several processes share the work: executor, standby, API, workers.

Each loop kills whoever comes up, and now and then everybody. Runs are maps and steps side by side whose
answers come in any order, and every output names its own step.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.engines.temporal.cluster import Cluster, WorkerProcess
from tests.postgresql_server import database_of
from tests.recovery.accounts import WOVEN, Accounts, Deaths
from tests.recovery.killing import Killer, Victim
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Services
from tests.recovery.stored import unended_runs
from tests.recovery.test_random_kills import end_every_run
from tests.recovery.woven import SPREAD_MS
from tests.service_process import ServiceProcess, free_port
from tests.simulator.process import Simulator
from tests.temporal_server import start_temporal

LATENCY_MS = 150
CLIENTS = 6
PAUSE_SECONDS = 0.8
"""Little enough that runs are in flight and not queued, on a machine that starts processes all the time."""
PLACED_LATENCY_MS = 400
PLACED_CLIENTS = 3
"""The same where Temporal places runs: fewer and longer ones, for its development server is slow."""
UNDER_WAY = 60
"""Answers before the first kill."""


@dataclass(slots=True)
class Site:
    """What is killed."""

    simulator: Simulator
    data_dir: Path
    """Where the store is, or the address of it."""
    services: Sequence[ServiceProcess]
    workers: Sequence[Victim] = ()

    def victims(self, stack: ExitStack) -> list[Victim]:
        """All processes."""
        api = bool(self.workers)
        return [*(serving(service, stack, api=api) for service in self.services), *self.workers]

    def stop(self) -> None:
        """Let everything that is stored end, then stop in order."""
        first, *others = self.services
        end_every_run(first)
        for service in others:
            service.terminate()
            assert service.wait() == 0, service.log()[-4000:]
        for worker in self.workers:
            assert isinstance(worker.process, WorkerProcess)
            assert worker.process.terminate() == 0, worker.process.log()[-4000:]


def serving(service: ServiceProcess, stack: ExitStack, *, api: bool) -> Victim:
    """The place of a service."""

    def begin() -> ServiceProcess:
        service.start()
        stack.callback(service.kill)
        return service

    def role() -> str:
        try:
            checks = httpx.get(f"{service.url}/readyz", trust_env=False, timeout=5).json()["checks"]
        except httpx.TransportError:
            return "silent"
        return "API" if api else str(checks["executor"]["detail"])

    return Victim(begin, role, service.url)


def working(cluster: Cluster) -> Victim:
    """The place of a worker."""
    return Victim(cluster.starting, lambda: "worker")


async def survive(site: Site, *, kills: int, seed: int) -> dict[str, float]:
    """Kill, balance, and insist that there was something to lose."""
    begun = time.monotonic()
    latency, clients = (PLACED_LATENCY_MS, PLACED_CLIENTS) if site.workers else (LATENCY_MS, CLIENTS)
    site.simulator.control(latency_ms=latency, spread_ms=SPREAD_MS)
    ledger, deaths = Ledger(), Deaths()
    crowd = Crowd(
        "", ledger, random.Random(seed), clients=clients, pause_seconds=PAUSE_SECONDS, body=WOVEN.submission
    )
    with ExitStack() as stack:
        killer = Killer(
            site.victims(stack),
            crowd,
            random.Random(seed),
            lambda live: deaths.note(site.data_dir, site.simulator, live=live),
            lambda: unended_runs(site.data_dir),
        )
        await killer.start()
        async with crowd.submitting():
            await asyncio.to_thread(site.simulator.wait, answered=UNDER_WAY, seconds=60)
            await killer.kill(kills)
        site.stop()
    accounts = Accounts(
        work=WOVEN, ledger=ledger, deaths=deaths, data_dir=site.data_dir, simulator=site.simulator
    )
    balanced = accounts.balanced()
    figures: dict[str, float] = {**killer.killed, **balanced, "seconds": round(time.monotonic() - begun)}
    print(figures)  # noqa: T201  the figures are the point of the long version
    assert balanced["lost attempts"] >= kills, figures
    assert balanced["acknowledged"] >= 3 * kills, figures
    assert balanced["under a key"] >= kills, figures
    assert balanced["outcomes at deaths"] >= 10 * kills, figures
    return figures


@pytest.fixture
def in_one_file(services: Services) -> Site:
    """Two services on one SQLite file."""
    return Site(services.simulator, services.data_dir, [service_on(services, "data") for _ in range(2)])


@pytest.fixture
def in_postgresql(tmp_path: Path, simulator: Simulator) -> Iterator[Site]:
    """Two services on one PostgreSQL database."""
    url = database_of(tmp_path / "data")
    with ExitStack() as stack:
        services = Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": url})
        yield Site(simulator, services.data_dir, [service_on(services, name) for name in ("first", "second")])


def service_on(services: Services, folder: str) -> ServiceProcess:
    """One that is not started yet."""
    return ServiceProcess(services.folder / folder, environment=services.environment(), port=free_port())


@pytest.fixture
def on_workers(tmp_path: Path, simulator: Simulator) -> Iterator[Site]:
    """An API process and two workers on one PostgreSQL database, with a Temporal server of their own."""
    (tmp_path / "temporal").mkdir()
    with start_temporal(tmp_path / "temporal") as temporal, ExitStack() as stack:
        cluster = Cluster(tmp_path, simulator, temporal, f"q-{uuid.uuid4().hex[:8]}", stack)
        cluster.shared["ORCHESTRATOR_STORE__URL"] = database_of(cluster.data_dir)
        api = ServiceProcess(cluster.folder / "api", environment=cluster.environment(), port=free_port())
        yield Site(simulator, cluster.data_dir, [api], [working(cluster), working(cluster)])


@pytest.mark.timeout(240)
async def test_four_kills_on_one_file_lose_nothing_and_repeat_nothing(in_one_file: Site) -> None:
    await survive(in_one_file, kills=4, seed=5)


@pytest.mark.timeout(240)
async def test_four_kills_on_postgresql_lose_nothing_and_repeat_nothing(in_postgresql: Site) -> None:
    await survive(in_postgresql, kills=4, seed=6)


@pytest.mark.temporal
@pytest.mark.timeout(240)
async def test_three_kills_under_temporal_on_postgresql_lose_nothing_and_repeat_nothing(
    on_workers: Site,
) -> None:
    await survive(on_workers, kills=3, seed=4)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
async def test_a_hundred_and_twenty_kills_on_one_file_lose_nothing_and_repeat_nothing(
    in_one_file: Site,
) -> None:
    figures = await survive(in_one_file, kills=120, seed=120)
    assert min(figures["executor"], figures["standby"]) >= 25, figures


@pytest.mark.chaos
@pytest.mark.timeout(3600)
async def test_a_hundred_and_twenty_kills_on_postgresql_lose_nothing_and_repeat_nothing(
    in_postgresql: Site,
) -> None:
    figures = await survive(in_postgresql, kills=120, seed=121)
    assert min(figures["executor"], figures["standby"]) >= 25, figures


@pytest.mark.chaos
@pytest.mark.temporal
@pytest.mark.timeout(3600)
async def test_sixty_kills_under_temporal_on_postgresql_lose_nothing_and_repeat_nothing(
    on_workers: Site,
) -> None:
    figures = await survive(on_workers, kills=60, seed=101)
    assert figures["API"] >= 10, figures
    assert figures["worker"] >= 20, figures
