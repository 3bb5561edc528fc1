"""API, workers, database, Temporal and provider on hosts of their own, whose links are cut and healed.

The clients' ledger says what was acknowledged, the journal what became of it, the simulator what was called.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engines.temporal.cluster import Cluster
from tests.postgresql_server import ADDRESS_FILE, postgres_server
from tests.recovery.chain import LABEL, STEPS, outputs_of
from tests.recovery.hosts import Cut, Host, Network, network
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import StoredRun, integrity, stored_runs
from tests.service_process import ServiceProcess
from tests.simulator.process import Simulator, start_simulator
from tests.temporal_server import start_temporal

LATENCY_MS = 150
CLIENTS = 2
PAUSE_SECONDS = 0.8
"""Little enough that the development server of Temporal is not what is tested."""
STORES_WITHIN = 60.0
"""Seconds after healing within which runs are accepted again."""
ENDS_WITHIN = 180.0
"""The same for the end of everything that was accepted: some of it has gathered meanwhile."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """One disturbance: links between two hosts, or all of one host where `other` is None."""

    one: str
    other: str | None
    how: Cut
    seconds: float
    pause: float = 1.0

    def begin(self, hosts: Network) -> None:
        """Make it."""
        if self.other is None:
            hosts.unplug(self.one)
        else:
            hosts.cut(self.one, self.other, self.how)


@dataclass(slots=True)
class Site:
    """The hosts and what runs on them."""

    hosts: Network
    cluster: Cluster
    simulator: Simulator
    api: ServiceProcess
    ledger: Ledger = field(default_factory=Ledger)

    def host(self, name: str) -> Host:
        """One of them."""
        return self.hosts.hosts[name]

    def disturb(self, troubles: Sequence[Trouble]) -> None:
        """One trouble after the other under load; in the end everything that was accepted has ended."""
        self.host("api").do(asyncio.run, self._disturbed(troubles))

    async def _disturbed(self, troubles: Sequence[Trouble]) -> None:
        chance, refused = random.Random(5), frozenset({503})
        crowd = Crowd(
            self.api.url,
            self.ledger,
            chance,
            refused=refused,
            clients=CLIENTS,
            pause_seconds=PAUSE_SECONDS,
        )
        crowd.up.set()
        async with crowd.submitting():
            await asyncio.sleep(1.0)
            for trouble in troubles:
                await asyncio.to_thread(trouble.begin, self.hosts)
                await asyncio.sleep(trouble.seconds)
                await asyncio.to_thread(self.hosts.heal)
                healed_at = time.monotonic()
                await asyncio.to_thread(wait_until_it_stores, self.api.url)
                print(f"{trouble}: ready {time.monotonic() - healed_at:.1f} s after")  # noqa: T201  as below
                await asyncio.sleep(trouble.pause)
            healed_at = time.monotonic()
        await asyncio.to_thread(end_every_run, self.api)
        seconds = time.monotonic() - healed_at
        print(f"{len(self.ledger.acknowledged)} runs; all ended {seconds:.1f} s after")  # noqa: T201  a figure of the long version
        assert seconds <= ENDS_WITHIN

    def runs(self) -> dict[str, StoredRun]:
        """What the database holds."""
        return self.host("database").do(stored_runs, self.cluster.data_dir)

    def balance(self, *, floor: int) -> None:
        """Every account is right, and there was something to lose."""
        runs, ledger = self.runs(), self.ledger
        assert ledger.contradictions == []
        assert [run_id for run_id in ledger.acknowledged if run_id not in runs] == [], "acknowledged and lost"
        assert [run.flaws() for run in runs.values() if run.flaws() or run.status != "completed"] == []
        words = {run_id: run.labels[LABEL] for run_id, run in runs.items()}
        assert all(runs[run_id].outputs == outputs_of(word) for run_id, word in words.items())
        assert [word for word, count in Counter(words.values()).items() if count > 1] == [], (
            "a word ran twice"
        )
        unknown = {word for run_id, word in words.items() if run_id not in ledger.acknowledged}
        assert unknown <= ledger.unanswered, "runs that nobody submitted"
        calls = self.host("model").do(self.simulator.stats).by_key
        for run_id, run in runs.items():
            lost = Counter(run.of("AttemptLost"))
            made = {step: calls.get(f"{run_id}:{step}", 0) for step in STEPS}
            assert all(1 <= count <= 1 + lost[step] for step, count in made.items()), (run_id, made, lost)
        assert self.host("database").do(integrity, self.cluster.data_dir) == "ok"
        assert len(ledger.acknowledged) >= floor, len(ledger.acknowledged)


def wait_until_it_stores(url: str) -> None:
    """Until /readyz says that the store takes writes."""
    deadline = time.monotonic() + STORES_WITHIN
    while httpx.get(f"{url}/readyz", trust_env=False, timeout=STORES_WITHIN).status_code != 200:
        assert time.monotonic() < deadline, "the store takes no writes"
        time.sleep(0.05)


def end_every_run(service: ServiceProcess) -> None:
    """Wait until everything that is stored has ended."""
    with client_of(service) as client:
        unfinished = "/v1/runs?limit=100&status=pending,running,cancelling"
        while page := client.http.get(unfinished).raise_for_status().json()["data"]:
            for run in page:
                client.follow(run["id"])


@dataclass(frozen=True, slots=True)
class Pair:
    """Two services with the embedded engine on one database, all on hosts of their own."""

    hosts: Network
    data_dir: Path
    simulator: Simulator
    executor: ServiceProcess
    standby: ServiceProcess


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """One executes, the other stands by."""
    with ExitStack() as stack:
        hosts = stack.enter_context(network("first", "second", "database", "model"))
        place = hosts.hosts
        simulator = place["model"].do(stack.enter_context, start_simulator(host="0.0.0.0"))  # noqa: S104  of that host
        server = place["database"].do(stack.enter_context, postgres_server(open=True))
        url = place["database"].do(server.create_database)
        settings = {
            "ORCHESTRATOR_STORE__URL": server.url_of(place["database"].address, url),
            "ORCHESTRATOR_PROVIDERS__sim__BASE_URL": f"http://{place['model'].address}:{simulator.port}/v1",
        }
        services = Services(tmp_path, simulator, stack, settings)
        first = place["first"].do(services.ready, data_dir=tmp_path / "first")
        second = place["second"].do(services.ready, data_dir=tmp_path / "second")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / ADDRESS_FILE).write_text(url, encoding="utf-8")
        yield Pair(hosts, tmp_path / "data", simulator, first, second)


def await_checks(client: Client, holds: Callable[[Mapping[str, Mapping[str, Any]]], bool]) -> float:
    """Seconds until /readyz says so."""
    begun = time.monotonic()
    while not holds(client.checks()):
        assert time.monotonic() - begun < STORES_WITHIN, client.checks()
        time.sleep(0.1)
    return time.monotonic() - begun


@pytest.mark.servers
@pytest.mark.timeout(240)
def test_an_executor_out_of_reach_of_its_database_loses_its_runs_to_the_standby(pair: Pair) -> None:
    place = pair.hosts.hosts
    place["model"].do(pair.simulator.control, latency_ms=LATENCY_MS)

    def accept() -> dict[str, str]:
        with client_of(pair.executor) as client:
            client.ended(client.accepted("before"))
            place["model"].do(pair.simulator.control, latency_ms=2_000)
            return {client.accepted(f"word-{number}"): f"word-{number}" for number in range(10)}

    def refused() -> None:
        with client_of(pair.executor) as client:
            await_checks(client, lambda checks: checks["store"]["status"] == "failed")
            assert client.status("/healthz") == 200
            assert client.status("/readyz") == 503
            refusal = client.submit("refused")
            assert (refusal.status_code, int(refusal.headers["retry-after"]) >= 1) == (503, True)

    def taken_over(words: Mapping[str, str]) -> float:
        with client_of(pair.standby) as client:
            seconds = await_checks(client, lambda checks: checks["executor"]["detail"] == "executor")
            place["model"].do(pair.simulator.control, latency_ms=0)
            for run_id, word in words.items():
                assert client.ended(run_id)["outputs"] == outputs_of(word)
        return seconds

    def back() -> None:
        with client_of(pair.executor) as client:
            await_checks(client, lambda checks: checks["store"]["status"] == "ok")
            await_checks(client, lambda checks: checks["executor"]["detail"] == "standby")
            assert client.ended(client.accepted("after"))["outputs"] == outputs_of("after")

    words = place["first"].do(accept)
    place["model"].do(pair.simulator.wait, calls=3 + len(words), seconds=30)
    cut_at = time.monotonic()
    pair.hosts.cut("first", "database", "silent")
    place["first"].do(refused)
    print(f"not ready after {time.monotonic() - cut_at:.1f} s")  # noqa: T201  a figure
    place["second"].do(taken_over, words)
    print(f"taken over and ended after {time.monotonic() - cut_at:.1f} s")  # noqa: T201  a figure
    pair.hosts.heal()
    place["first"].do(back)
    runs = place["database"].do(stored_runs, pair.data_dir)
    assert set(runs) >= set(words)
    assert [run.flaws() for run in runs.values() if run.flaws() or run.status != "completed"] == []
    assert sum(len(run.of("AttemptLost")) for run in runs.values()) >= 5


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """An API process and two workers, each on a host of its own, and so are the servers that they need."""
    with ExitStack() as stack:
        hosts = stack.enter_context(network("api", "worker1", "worker2", "database", "temporal", "model"))
        place = hosts.hosts
        simulator = place["model"].do(stack.enter_context, start_simulator(host="0.0.0.0"))  # noqa: S104  of that host
        place["model"].do(simulator.control, latency_ms=LATENCY_MS)
        server = place["database"].do(stack.enter_context, postgres_server(open=True))
        url = place["database"].do(server.create_database)
        temporal = place["temporal"].do(
            stack.enter_context, start_temporal(tmp_path, host=place["temporal"].address)
        )
        shared = {
            "ORCHESTRATOR_STORE__URL": server.url_of(place["database"].address, url),
            "ORCHESTRATOR_PROVIDERS__sim__BASE_URL": f"http://{place['model'].address}:{simulator.port}/v1",
        }
        cluster = Cluster(tmp_path, simulator, temporal, f"q-{uuid.uuid4().hex[:8]}", stack, shared)
        cluster.data_dir.mkdir()
        (cluster.data_dir / ADDRESS_FILE).write_text(url, encoding="utf-8")
        api = place["api"].do(cluster.api)
        place["worker1"].do(cluster.worker)
        place["worker2"].do(cluster.worker)
        yield Site(hosts, cluster, simulator, api)


@pytest.mark.temporal
@pytest.mark.timeout(240)
def test_links_that_are_cut_in_silence_lose_nothing_and_repeat_nothing(site: Site) -> None:
    site.disturb(
        [
            Trouble("worker1", "database", "silent", 3.0),
            Trouble("worker2", None, "silent", 4.0),
            Trouble("api", "database", "silent", 3.0),
        ]
    )
    site.balance(floor=20)


LINKS = [
    ("worker1", "database"),
    ("api", "database"),
    ("worker2", "temporal"),
    ("api", "temporal"),
    ("worker1", "model"),
    ("worker2", None),
]


@pytest.mark.chaos
@pytest.mark.temporal
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_every_link_cut_and_healed_in_turn_loses_nothing_and_repeats_nothing(site: Site, how: Cut) -> None:
    seconds = (2.0, 12.0, 30.0)
    site.disturb([Trouble(one, other, how, length, 5.0) for length in seconds for one, other in LINKS])
    site.balance(floor=300)
