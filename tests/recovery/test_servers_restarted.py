"""PostgreSQL restarted every few seconds, and Temporal away for long, under load; the short versions are in
`test_postgresql` and in the tests of the Temporal engine.

The processes of the service live on. What they acknowledged ends, and ends soon after the servers are back.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from app.engines.temporal.client import SDK_LOGGER
from tests.engines.temporal.cluster import Cluster
from tests.postgresql_server import ADDRESS_FILE, PostgresServer, postgres_server
from tests.recovery.accounts import WOVEN, Accounts, Deaths
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Services
from tests.recovery.test_kills_among_processes import PAUSE_SECONDS, PLACED_CLIENTS, PLACED_LATENCY_MS
from tests.recovery.woven import SPREAD_MS
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator
from tests.temporal_server import TemporalServer, start_temporal

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

RUNS = 1000
PLACED_RUNS = 300
"""The same where Temporal places them; its development server is slow."""
CLIENTS = 8
LATENCY_MS = 100
UP_SECONDS = (1.5, 4.0)
DOWN_SECONDS = (0.2, 1.5)
ENDED_WITHIN = 60.0
"""After the last restart, for 99 of 100 runs."""
AWAY_SECONDS = 30.0
UNENDED = "SELECT count(*) FILTER (WHERE status <> 'completed'), count(*) FROM runs"


@dataclass(slots=True)
class Load:
    """Clients, and what is known of their runs."""

    simulator: Simulator
    data_dir: Path
    services: Sequence[ServiceProcess]
    ledger: Ledger = field(default_factory=Ledger)
    deaths: Deaths = field(default_factory=Deaths)

    def crowd(self, clients: int, latency_ms: float) -> Crowd:
        """That many of them, on all services; refused submissions are repeated."""
        self.simulator.control(latency_ms=latency_ms, spread_ms=SPREAD_MS)
        crowd = Crowd(
            "",
            self.ledger,
            random.Random(clients),
            refused=frozenset({503}),
            clients=clients,
            pause_seconds=PAUSE_SECONDS,
            body=WOVEN.submission,
        )
        crowd.urls[:] = [service.url for service in self.services]
        crowd.up.set()
        return crowd

    def note(self) -> None:
        """What the journal holds at the moment."""
        self.deaths.note(self.data_dir, self.simulator, live=True)

    def balanced(self) -> dict[str, int]:
        """The figures, once every account was found to be right."""
        for service in self.services:
            service.terminate()
            assert service.wait() == 0, service.log()[-4000:]
        return Accounts(
            work=WOVEN,
            ledger=self.ledger,
            deaths=self.deaths,
            data_dir=self.data_dir,
            simulator=self.simulator,
        ).balanced()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that may be stopped, with a database whose address is in the data folder."""
    (tmp_path / "data").mkdir()
    with postgres_server() as server:
        (tmp_path / "data" / ADDRESS_FILE).write_text(server.create_database(), encoding="utf-8")
        yield server


@pytest.fixture
def cluster(tmp_path: Path, simulator: Simulator, database: PostgresServer) -> Iterator[Cluster]:
    """A Temporal server that may be stopped, and what runs on it, on that database."""
    (tmp_path / "temporal").mkdir()
    with start_temporal(tmp_path / "temporal") as temporal, ExitStack() as stack:
        cluster = Cluster(tmp_path, simulator, temporal, f"q-{uuid.uuid4().hex[:8]}", stack)
        cluster.shared["ORCHESTRATOR_STORE__URL"] = address_in(tmp_path)
        yield cluster


def address_in(folder: Path) -> str:
    """Of the database."""
    return (folder / "data" / ADDRESS_FILE).read_text(encoding="utf-8")


async def restart_until(load: Load, server: PostgresServer, crowd: Crowd, runs: int) -> dict[str, float]:
    """Restart the database until that many runs are acknowledged, then time the end of them."""
    chance, begun = random.Random(runs), time.monotonic()
    async with crowd.submitting():
        restarts = 0
        while len(load.ledger.acknowledged) < runs:
            await asyncio.sleep(chance.uniform(*UP_SECONDS))
            await asyncio.to_thread(server.stop, mode=chance.choice(["fast", "immediate"]))
            await asyncio.sleep(chance.uniform(*DOWN_SECONDS))
            await asyncio.to_thread(server.start)
            await asyncio.to_thread(load.note)
            restarts += 1
        restarted_at = time.monotonic()
    return {
        "restarts": restarts,
        "seconds of restarts": round(restarted_at - begun),
        **await asyncio.to_thread(times_of_ends, server, address_in(load.data_dir.parent), restarted_at),
    }


def times_of_ends(server: PostgresServer, url: str, since: float) -> dict[str, float]:
    """Seconds until 99 of 100 runs had ended, and until all had."""
    times: dict[str, float] = {}
    while "all done after" not in times:
        ((unended, runs),) = server.execute(UNENDED, url=url)
        elapsed = round(time.monotonic() - since, 1)
        assert elapsed <= 2 * ENDED_WITHIN, (unended, runs)
        if unended <= runs / 100:
            times.setdefault("99 % done after", elapsed)
        if unended == 0:
            times["all done after"] = elapsed
        time.sleep(0.1)
    return times


async def test_a_thousand_runs_are_exact_while_postgresql_is_restarted_every_few_seconds(
    tmp_path: Path, simulator: Simulator, database: PostgresServer
) -> None:
    with ExitStack() as stack:
        settings = {"ORCHESTRATOR_STORE__URL": address_in(tmp_path)}
        services = Services(tmp_path, simulator, stack, settings)
        both = [services.ready(data_dir=tmp_path / name) for name in ("first", "second")]
        load = Load(simulator, tmp_path / "data", both)
        crowd = load.crowd(CLIENTS, LATENCY_MS)
        times = await restart_until(load, database, crowd, RUNS)
        figures = {**times, **load.balanced()}
    print(figures)  # noqa: T201  the figures are the point
    assert figures["99 % done after"] <= ENDED_WITHIN, figures
    assert figures["acknowledged"] >= RUNS, figures
    assert figures["restarts"] >= 10, figures


@pytest.mark.temporal
async def test_runs_that_temporal_places_are_exact_while_postgresql_is_restarted_every_few_seconds(
    cluster: Cluster, simulator: Simulator, database: PostgresServer
) -> None:
    load = Load(simulator, cluster.data_dir, [cluster.api()])
    workers = [cluster.worker(), cluster.worker()]
    crowd = load.crowd(PLACED_CLIENTS, PLACED_LATENCY_MS)
    times = await restart_until(load, database, crowd, PLACED_RUNS)
    assert [worker.terminate() for worker in workers] == [0, 0]
    figures = {**times, **load.balanced()}
    print(figures)  # noqa: T201  the figures are the point
    assert figures["99 % done after"] <= ENDED_WITHIN, figures
    assert figures["acknowledged"] >= PLACED_RUNS, figures
    assert figures["restarts"] >= 10, figures


def readiness(service: ServiceProcess) -> int:
    """What /readyz answers with."""
    return httpx.get(f"{service.url}/readyz", trust_env=False, timeout=10).status_code


async def stay_away(temporal: TemporalServer, service: ServiceProcess, ledger: Ledger) -> int:
    """Stop Temporal for a while; the number of runs that were accepted meanwhile."""
    await asyncio.to_thread(temporal.stop)
    before, until = len(ledger.acknowledged), time.monotonic() + AWAY_SECONDS
    while time.monotonic() < until:
        assert await asyncio.to_thread(readiness, service) == 200
        await asyncio.sleep(1.0)
    accepted = len(ledger.acknowledged) - before
    await asyncio.to_thread(temporal.start)
    return accepted


@pytest.mark.temporal
async def test_runs_are_accepted_while_temporal_is_away_for_half_a_minute_and_all_of_them_end(
    cluster: Cluster, simulator: Simulator, database: PostgresServer
) -> None:
    api = cluster.api()
    load = Load(simulator, cluster.data_dir, [api])
    workers = [cluster.worker(), cluster.worker()]
    crowd = load.crowd(PLACED_CLIENTS, PLACED_LATENCY_MS)
    # Nobody is refused here: the store is there all the time.
    async with crowd.submitting():
        await asyncio.to_thread(simulator.wait, calls=50, seconds=60)
        accepted = await stay_away(cluster.temporal, api, load.ledger)
        back_at = time.monotonic()
        await asyncio.to_thread(load.note)
    times = await asyncio.to_thread(times_of_ends, database, address_in(cluster.folder), back_at)
    assert [worker.terminate() for worker in workers] == [0, 0]
    # What the SDK says of it, it says as everybody does.
    said = [json.loads(line)["logger"] for worker in workers for line in worker.log().splitlines()]
    assert SDK_LOGGER in said
    figures = {"accepted meanwhile": accepted, **times, **load.balanced()}
    print(figures)  # noqa: T201  the figures are the point
    assert accepted >= 2 * AWAY_SECONDS, figures
