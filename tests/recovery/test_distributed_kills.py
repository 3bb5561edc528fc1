"""SIGKILL at random moments while the items of distributed maps are under way, and then the accounts."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

import pytest

from tests.recovery.services import Services, client_of
from tests.recovery.stored import integrity, stored_runs, succeeded_steps
from tests.recovery.test_nested_kills import ask, check
from tests.service_process import free_port

LATENCY_MS: Final = 40
ITEMS: Final = 60
KILLS: Final = 5
SPREAD: Final[dict[str, Any]] = {
    "name": "spread",
    "steps": [
        ask("first", "begin"),
        {
            "id": "each",
            "type": "map",
            "items": "range(inputs.count) | list",
            "distribute": True,
            "max_concurrency": 8,
            "on_item_error": "continue",
            "steps": [
                ask("say", "{{ steps.first.text }} {{ item }}", condition="index % 5 < 4"),
                ask("again", "{{ steps.say.text | default('nothing') }} {{ index }}", run_on="always"),
                {"id": "out", "type": "transform", "expression": "steps.again.text ~ 60 // item"},
            ],
        },
    ],
    "outputs": {"results": "{{ steps.each.results }}", "errors": "{{ steps.each.errors }}"},
}


def results() -> list[str | None]:
    """What undisturbed items bring: the first one fails, and every fifth says nothing."""
    said = ("nothing" if item % 5 == 4 else f"begin {item}" for item in range(ITEMS))
    return [
        None if item == 0 else f"{text} {item}{60 // item}"
        for item, text in zip(range(ITEMS), said, strict=True)
    ]


@pytest.mark.timeout(240)
async def test_kills_among_items_lose_nothing_and_repeat_nothing(services: Services) -> None:
    chance = random.Random(11)
    services.simulator.control(latency_ms=LATENCY_MS)
    port = free_port()
    service = services.start(port=port)
    await asyncio.to_thread(service.wait_ready)
    with client_of(service) as client:
        body = {"workflow": SPREAD, "inputs": {"count": ITEMS}}
        run_id = client.http.post("/v1/runs", json=body).raise_for_status().json()["id"]
    known: dict[str, int] = {}
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.05, 0.3))
        await asyncio.to_thread(service.kill)
        calls = services.simulator.stats().by_key
        for key in succeeded_steps(services.data_dir):
            known.setdefault(key, calls.get(key, 0))
        service = services.start(port=port)
        await asyncio.to_thread(service.wait_ready)
    with client_of(service) as client:
        run = await asyncio.to_thread(client.ended, run_id)
    service.terminate()
    assert service.wait() == 0, service.log()[-4000:]
    assert run["outputs"]["results"] == results()
    (error,) = run["outputs"]["errors"]
    assert (error["index"], error["path"]) == (0, "each[0].out")
    runs = stored_runs(services.data_dir)
    assert len(runs) == 1 + ITEMS, "every item had one run"
    calls = dict(services.simulator.stats().by_key)
    completed = {one: stored for one, stored in runs.items() if stored.status == "completed"}
    assert len(completed) == ITEMS
    check(completed, calls)
    assert {key for key, count in known.items() if calls.get(key, 0) != count} == set()
    assert len(known) >= ITEMS // 4, "the kills came while items were under way"
    assert sum(len(stored.of("AttemptLost")) for stored in runs.values()) >= KILLS
    assert integrity(services.data_dir) == "ok"
