"""SIGKILL at random moments under load, again and again, and then the accounts.

The clients' ledger says what was acknowledged, the journal at each death says which steps had their
outcome, the simulator says what was called. Kills hit the service at work and while it is recovering.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tests.recovery.chain import LABEL, STEPS, outputs_of
from tests.recovery.ledger import Crowd, Ledger
from tests.recovery.services import Services, client_of
from tests.recovery.stored import StoredRun, integrity, stored_runs, succeeded_steps
from tests.service_process import ServiceProcess, free_port

LATENCY_MS = 120
"""Of the simulator: long enough that runs are in flight whenever a kill comes."""
KILLED_WHILE_STARTING = 3
"""Of five kills, the one that does not wait for the service to be ready."""


@dataclass(slots=True)
class Deaths:
    """What was known at the deaths of the service."""

    calls_of_succeeded: dict[str, int] = field(default_factory=dict)
    """Calls by `run:step` at the first death that found its outcome in the journal."""

    def note(self, services: Services) -> None:
        """Look at what the dead process left."""
        calls = services.simulator.stats().by_key
        for key in succeeded_steps(services.data_dir):
            self.calls_of_succeeded.setdefault(key, calls.get(key, 0))


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
            await asyncio.to_thread(deaths.note, services)
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


def balance(services: Services, ledger: Ledger, deaths: Deaths, runs: Mapping[str, StoredRun]) -> None:
    """Every account is right."""
    assert ledger.contradictions == []
    assert [run_id for run_id in ledger.acknowledged if run_id not in runs] == [], "acknowledged and lost"
    wrong = {run_id: run.flaws() for run_id, run in runs.items() if run.flaws() or run.status != "completed"}
    assert wrong == {}
    words = {run_id: run.labels[LABEL] for run_id, run in runs.items()}
    assert all(runs[run_id].outputs == outputs_of(word) for run_id, word in words.items())
    assert [word for word, count in Counter(words.values()).items() if count > 1] == [], "a word ran twice"
    unknown = {word for run_id, word in words.items() if run_id not in ledger.acknowledged}
    assert unknown <= ledger.unanswered, "runs that nobody submitted"

    calls = services.simulator.stats().by_key
    repeated = {key for key, count in deaths.calls_of_succeeded.items() if calls.get(key, 0) != count}
    assert repeated == set(), "outcomes were in the journal and their steps were called again"
    for run_id, run in runs.items():
        lost = Counter(run.of("AttemptLost"))
        excess = {step: calls.get(f"{run_id}:{step}", 0) for step in STEPS}
        assert all(1 <= count <= 1 + lost[step] for step, count in excess.items()), (run_id, excess, lost)
    assert integrity(services.data_dir) == "ok"


async def survive(services: Services, *, kills: int, seed: int) -> None:
    """Kill, balance, and insist that there was something to lose."""
    ledger, deaths = await kill_again_and_again(services, kills, seed)
    runs = stored_runs(services.data_dir)
    balance(services, ledger, deaths, runs)
    lost = sum(len(run.of("AttemptLost")) for run in runs.values())
    summary = {
        "kills": kills,
        "acknowledged": len(ledger.acknowledged),
        "unanswered": len(ledger.unanswered),
        "lost attempts": lost,
        "outcomes at deaths": len(deaths.calls_of_succeeded),
    }
    print(summary)  # noqa: T201  the figures are the point of the long version
    assert lost >= kills, summary
    assert len(ledger.acknowledged) >= 5 * kills, summary
    assert len(ledger.keyed) >= kills, summary
    assert len(deaths.calls_of_succeeded) >= 5 * kills, summary


@pytest.mark.timeout(240)
async def test_twelve_kills_under_load_lose_nothing_and_repeat_nothing(services: Services) -> None:
    await survive(services, kills=12, seed=12)


@pytest.mark.chaos
@pytest.mark.timeout(3600)
async def test_two_hundred_kills_under_load_lose_nothing_and_repeat_nothing(services: Services) -> None:
    await survive(services, kills=200, seed=200)
