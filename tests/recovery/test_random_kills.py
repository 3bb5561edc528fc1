"""SIGKILL at random moments under load, again and again, and then the accounts.

The clients' ledger says what was acknowledged, the journal at each death says which steps had their
outcome, the simulator says what was called. Kills hit the service at work and while it is recovering.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.recovery.accounts import CHAIN, Accounts, Deaths
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Services, client_of
from tests.service_process import ServiceProcess, free_port

LATENCY_MS = 120
"""Of the simulator: long enough that runs are in flight whenever a kill comes."""
KILLED_WHILE_STARTING = 3
"""Of five kills, the one that does not wait for the service to be ready."""


async def kill_again_and_again(services: Services, kills: int, seed: int) -> tuple[Ledger, Deaths]:
    """Load, kill, restart; at the end everything that is stored has ended and the service has stopped."""
    chance = random.Random(seed)
    services.simulator.control(latency_ms=LATENCY_MS)
    ledger, deaths, port = Ledger(), Deaths(), free_port()
    crowd = Crowd(f"http://127.0.0.1:{port}", ledger, chance)
    service = services.start(port=port)
    async with crowd.submitting():
        for kill in range(kills):
            if kill % 5 == KILLED_WHILE_STARTING:
                await asyncio.sleep(chance.uniform(0, 1.5))
            else:
                await asyncio.to_thread(service.wait_ready)
                crowd.up.set()
                await asyncio.sleep(chance.uniform(0.1, 0.9))
            crowd.up.clear()
            await asyncio.to_thread(service.kill)
            await asyncio.to_thread(deaths.note, services.data_dir, services.simulator)
            service = services.start(port=port)
        await asyncio.to_thread(service.wait_ready)
        crowd.up.set()
    await asyncio.to_thread(end_every_run, service)
    return ledger, deaths


def end_every_run(service: ServiceProcess) -> None:
    """Wait until everything that is stored has ended, then stop in order."""
    with client_of(service) as client:
        unfinished = "/v1/runs?limit=100&status=pending,running,cancelling"
        while page := client.http.get(unfinished).raise_for_status().json()["data"]:
            for run in page:
                client.follow(run["id"])
    service.terminate()
    assert service.wait() == 0, service.log()[-4000:]


async def survive(services: Services, *, kills: int, seed: int) -> None:
    """Kill, balance, and insist that there was something to lose."""
    ledger, deaths = await kill_again_and_again(services, kills, seed)
    accounts = Accounts(
        work=CHAIN,
        ledger=ledger,
        deaths=deaths,
        data_dir=services.data_dir,
        simulator=services.simulator,
    )
    figures = {"kills": kills, **accounts.balanced()}
    print(figures)  # noqa: T201  the figures are the point of the long version
    assert figures["lost attempts"] >= kills, figures
    assert figures["acknowledged"] >= 5 * kills, figures
    assert figures["under a key"] >= kills, figures
    assert figures["outcomes at deaths"] >= 5 * kills, figures


@pytest.mark.timeout(240)
async def test_twelve_kills_under_load_lose_nothing_and_repeat_nothing(services: Services) -> None:
    await survive(services, kills=12, seed=12)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
async def test_two_hundred_kills_under_load_lose_nothing_and_repeat_nothing(services: Services) -> None:
    await survive(services, kills=200, seed=200)
