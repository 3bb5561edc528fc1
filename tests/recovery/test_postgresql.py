"""What the recovery tests promise, on PostgreSQL: deaths of the service, of the executor, of the database."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.postgresql_server import PostgresServer, database_of, postgres_server
from tests.recovery.chain import LABEL, outputs_of
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Services, client_of
from tests.recovery.test_random_kills import end_every_run, survive
from tests.recovery.test_two_processes import take_over
from tests.simulator.process import Simulator


@pytest.fixture
def services(tmp_path: Path, simulator: Simulator) -> Iterator[Services]:
    """Services on one new database; each has a folder of its own for the rest."""
    url = database_of(tmp_path / "data")
    with ExitStack() as stack:
        yield Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": url})


@pytest.mark.timeout(240)
async def test_six_kills_under_load_lose_nothing_and_repeat_nothing(services: Services) -> None:
    await survive(services, kills=6, seed=6)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
async def test_a_hundred_kills_under_load_lose_nothing_and_repeat_nothing(services: Services) -> None:
    await survive(services, kills=100, seed=100)


def test_the_second_process_takes_over_when_the_first_is_killed(
    services: Services, simulator: Simulator
) -> None:
    take_over(services, simulator)


def test_a_submission_to_a_standby_wakes_the_executor_at_once(services: Services) -> None:
    executor = services.ready()
    standby = services.ready(data_dir=services.folder / "standby")
    with client_of(executor) as first, client_of(standby) as second:
        assert second.checks()["executor"]["detail"] == "standby"
        seconds = []
        for number in range(5):
            begun = time.monotonic()
            run_id = second.accepted(f"word-{number}")
            assert first.ended(run_id)["outputs"] == outputs_of(f"word-{number}")
            seconds.append(time.monotonic() - begun)
    # The poll comes once a second, so half of a second would be the middle without it.
    assert sorted(seconds)[2] < 0.4, seconds


@pytest.mark.timeout(120)
def test_another_process_goes_on_where_the_executor_stands_still(
    services: Services, simulator: Simulator
) -> None:
    frozen = services.ready()
    standby = services.ready(data_dir=services.folder / "standby")
    simulator.control(latency_ms=400)
    with client_of(frozen) as first, client_of(standby) as second:
        words = {first.accepted(f"first-{number}"): f"first-{number}" for number in range(5)}
        simulator.wait(calls=5)
        os.kill(frozen.pid, signal.SIGSTOP)
        try:
            words[second.accepted("meanwhile")] = "meanwhile"
            for run_id, word in words.items():
                assert second.ended(run_id)["outputs"] == outputs_of(word)
            assert second.checks()["executor"]["detail"] == "executor"
        finally:
            os.kill(frozen.pid, signal.SIGCONT)
        after = first.accepted("after")
        assert second.ended(after)["outputs"] == outputs_of("after")
        assert first.checks()["executor"]["detail"] == "standby"
        assert {second.ended(run_id)["status"] for run_id in words} == {"completed"}


class _Load:
    """A crowd on two services while their database goes down again and again."""

    def __init__(self, server: PostgresServer, services: Services) -> None:
        self.server = server
        self.services = services
        self.ledger = Ledger()

    async def restart(self, times: int, mode: str) -> None:
        service = self.services.ready()
        self.services.ready(data_dir=self.services.folder / "standby")
        crowd = Crowd(service.url, self.ledger, random.Random(times), refused=frozenset({503}))
        crowd.up.set()
        async with crowd.submitting():
            for _ in range(times):
                await asyncio.sleep(1.0)
                await asyncio.to_thread(self.server.stop, mode=mode)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(self.server.start)
                await asyncio.to_thread(self._wait_until_it_stores, service.url)
        await asyncio.to_thread(end_every_run, service)

    def _wait_until_it_stores(self, url: str) -> None:
        import httpx

        deadline = time.monotonic() + 30
        while httpx.get(f"{url}/readyz", trust_env=False).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
@pytest.mark.timeout(240)
async def test_restarts_of_the_database_under_load_lose_nothing(
    tmp_path: Path, simulator: Simulator, mode: str
) -> None:
    simulator.control(latency_ms=100)
    with postgres_server() as server, ExitStack() as stack:
        url = server.create_database()
        services = Services(tmp_path, simulator, stack, {"ORCHESTRATOR_STORE__URL": url})
        load = _Load(server, services)
        await load.restart(4, mode)
        rows = server.execute("SELECT id, status, labels::json ->> $1 FROM runs", LABEL, url=url)
        gaps = server.execute(
            "SELECT run_id FROM journal GROUP BY run_id HAVING max(seq) <> count(*)", url=url
        )
        repeated = server.execute(
            "SELECT run_id FROM journal WHERE type = 'StepSucceeded' "
            "GROUP BY run_id, convert_from(payload, 'UTF8')::json ->> 'path' HAVING count(*) > 1",
            url=url,
        )
    stored = {run_id: word for run_id, _, word in rows}
    assert load.ledger.contradictions == []
    assert [run_id for run_id in load.ledger.acknowledged if run_id not in stored] == []
    assert Counter(status for _, status, _ in rows) == {"completed": len(rows)}
    assert [word for word, count in Counter(stored.values()).items() if count > 1] == []
    assert (gaps, repeated) == ([], [])
    assert len(load.ledger.acknowledged) >= 40
