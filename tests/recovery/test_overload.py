"""A flood of submissions: what is accepted completes, the rest is refused fast, and probes go on."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import httpx
import pytest

from tests.recovery.chain import submission
from tests.recovery.services import Services
from tests.recovery.stored import stored_runs
from tests.simulator.process import Simulator

FLOOD: Final = 500
"""Submissions of a wave."""
CONNECTIONS: Final = 32
PROBES: Final = 40
ACTIVE: Final = 20
PENDING: Final = 50
PROBE_SECONDS: Final = 0.25
"""The promise is 0.1 on a machine of its own."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a submission got."""

    status: int
    headers: Mapping[str, str]
    body: Mapping[str, Any]


async def flood(url: str) -> tuple[list[Answer], list[float]]:
    """Wave after wave of submissions, and the times of enough probes while they are answered."""
    delays: list[float] = []
    answers: list[Answer] = []
    async with (
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as crowd,
        aiohttp.ClientSession(url) as platform,
    ):
        while len(delays) < PROBES:
            wave = asyncio.gather(*(submit(crowd, f"word-{number}") for number in range(FLOOD)))
            while not wave.done():
                delays += [await probe(platform, path) for path in ("/healthz", "/readyz")]
                await asyncio.wait({wave}, timeout=0.005)
            answers += await wave
    return answers, delays


async def probe(platform: aiohttp.ClientSession, path: str) -> float:
    """Seconds until a platform has its answer."""
    start = time.perf_counter()
    async with platform.get(path) as answer:
        await answer.read()
    return time.perf_counter() - start


async def submit(crowd: aiohttp.ClientSession, word: str) -> Answer:
    async with crowd.post("/v1/runs", json=submission(word)) as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, headers, await answer.json(content_type=None))


@pytest.mark.quiet
async def test_a_flood_is_accepted_to_the_bounds_and_refused_beyond_them(
    services: Services, simulator: Simulator
) -> None:
    simulator.control(latency_ms=200)
    bounds = {
        "ORCHESTRATOR_RUNS__MAX_ACTIVE": str(ACTIVE),
        "ORCHESTRATOR_RUNS__MAX_PENDING": str(PENDING),
    }
    service = services.ready(environment=bounds)
    answers, delays = await flood(service.url)
    statuses = Counter(answer.status for answer in answers)
    assert set(statuses) == {202, 429}
    assert statuses[202] >= ACTIVE + PENDING
    assert statuses[429] >= FLOOD / 2
    for refusal in answers:
        if refusal.status == 429:
            assert refusal.headers["content-type"] == "application/problem+json"
            assert int(refusal.headers["retry-after"]) >= 1
            assert refusal.body["status"] == 429
    delays.sort()
    # The median: on a shared machine a few probes say more about its other tenants than about us.
    assert delays[len(delays) // 2] < PROBE_SECONDS, delays

    accepted = [answer.body["id"] for answer in answers if answer.status == 202]
    await asyncio.to_thread(_end, service.url, accepted)
    assert simulator.stats().max_in_flight <= ACTIVE
    service.kill()
    runs = stored_runs(services.data_dir)
    assert set(runs) == set(accepted)
    assert all(run.status == "completed" and run.flaws() == [] for run in runs.values())


def _end(url: str, run_ids: list[str]) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as http:
        for run_id in run_ids:
            http.get(f"/v1/runs/{run_id}/events", headers={"Accept": "application/x-ndjson"})
