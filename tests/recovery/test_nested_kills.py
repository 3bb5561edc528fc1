"""SIGKILL at random moments while runs with every kind of block are under way, and then the accounts.

A map, a loop, a branch and two tasks side by side call the model; a wait parks the run, an approval waits
for an answer, and another workflow is called. Whatever the kills hit, the end is that of an undisturbed run.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Final

import pytest

from tests.recovery.services import Client, Services, client_of
from tests.recovery.stored import StoredRun, integrity, stored_runs, succeeded_steps
from tests.service_process import free_port

LATENCY_MS: Final = 60
RUNS: Final = 12
KILLS: Final = 9
WORDS: Final = ("ant", "bee", "cat", "dog", "elk")


def ask(step: str, prompt: str, **more: Any) -> dict[str, Any]:
    return {"id": step, "type": "llm", "provider": "sim", "model": "echo", "prompt": prompt, **more}


CALLED: Final[dict[str, Any]] = {
    "name": "called",
    "version": "1",
    "steps": [ask("say", "{{ inputs.word }}!")],
    "outputs": {"said": "{{ steps.say.text }}"},
}
NESTED: Final[dict[str, Any]] = {
    "name": "nested",
    "version": "1",
    "steps": [
        {
            "id": "each",
            "type": "map",
            "items": "inputs.words",
            "max_concurrency": 2,
            "steps": [
                ask("say", "{{ item }} {{ index }}"),
                {
                    "id": "route",
                    "type": "branch",
                    "condition": "{{ 'first' if index == 0 else 'other' }}",
                    "branches": {"first": [ask("shout", "{{ steps.say.text }}!")]},
                    "default": [ask("shout", "{{ steps.say.text }}?")],
                },
                {"id": "out", "type": "transform", "expression": "steps.route.shout"},
            ],
        },
        {"id": "rest", "type": "wait", "seconds": 1.3, "depends_on": ["each"]},
        {
            "id": "again",
            "type": "loop",
            "depends_on": ["rest"],
            "max_iterations": 9,
            "until": "loop.iteration >= 3",
            "steps": [ask("count", "{{ loop.iteration }}")],
        },
        {"id": "fan", "type": "parallel", "tasks": [ask("left", "l"), ask("right", "r")]},
        {"id": "ok", "type": "approval", "message": "go on?", "depends_on": ["again"]},
        {
            "id": "call",
            "type": "workflow",
            "workflow": "called",
            "depends_on": ["ok", "fan"],
            "inputs": {"word": "{{ inputs.words[0] }}"},
        },
    ],
    "finally": [ask("bye", "{{ run.status }}")],
    "outputs": {
        "each": "{{ steps.each.results }}",
        "last": "{{ steps.again.last.count }}",
        "fan": "{{ outputs.fan }}",
        "ok": "{{ steps.ok.action }}",
        "said": "{{ steps.call.said }}",
    },
}


def outputs() -> dict[str, Any]:
    """What an undisturbed run brings."""
    each = [f"{word} {index}{'!' if index == 0 else '?'}" for index, word in enumerate(WORDS)]
    return {
        "each": each,
        "last": "3",
        "fan": {"left": "l", "right": "r"},
        "ok": "approve",
        "said": f"{WORDS[0]}!",
    }


def answer_all(client: Client) -> None:
    """Answer what waits; an answer may be overtaken by another one, or by the process standing by."""
    for approval in client.http.get("/v1/approvals?limit=100").raise_for_status().json()["data"]:
        answer = client.http.post(f"/v1/approvals/{approval['id']}", json={"action": "approve"})
        assert answer.status_code in {200, 409, 410, 503}, answer.text


def end_every_run(client: Client) -> None:
    unfinished = "/v1/runs?limit=100&status=pending,running,waiting,cancelling"
    while client.http.get(unfinished).raise_for_status().json()["data"]:
        answer_all(client)


def check(runs: dict[str, StoredRun], calls: dict[str, int]) -> None:
    for run_id, run in runs.items():
        assert run.status == "completed", (run_id, run.status)
        lost = Counter(run.of("AttemptLost"))
        for path in run.of("StepSucceeded"):
            count = calls.get(f"{run_id}:{path}")
            assert count is None or 1 <= count <= 1 + lost[path], (run_id, path, count)
        for once in ("WaitOver", "ApprovalAnswered", "ChildEnded", "RunCompleted"):
            assert run.of(once) == list(dict.fromkeys(run.of(once)))


@pytest.mark.timeout(240)
async def test_kills_among_blocks_lose_nothing_and_repeat_nothing(services: Services) -> None:
    chance = random.Random(7)
    services.simulator.control(latency_ms=LATENCY_MS)
    port = free_port()
    service = services.start(port=port)
    await asyncio.to_thread(service.wait_ready)
    with client_of(service) as client:
        client.http.post("/v1/workflows", json=CALLED).raise_for_status()
        accepted = [
            client.http.post("/v1/runs", json={"workflow": NESTED, "inputs": {"words": WORDS}})
            .raise_for_status()
            .json()["id"]
            for _ in range(RUNS)
        ]
    known: dict[str, int] = {}
    for _ in range(KILLS):
        await asyncio.sleep(chance.uniform(0.05, 0.7))
        await asyncio.to_thread(service.kill)
        calls = services.simulator.stats().by_key
        for key in succeeded_steps(services.data_dir):
            known.setdefault(key, calls.get(key, 0))
        service = services.start(port=port)
        await asyncio.to_thread(service.wait_ready)
        with client_of(service) as client:
            answer_all(client)
    with client_of(service) as client:
        await asyncio.to_thread(end_every_run, client)
        brought = [client.ended(run_id)["outputs"] for run_id in accepted]
    service.terminate()
    assert service.wait() == 0, service.log()[-4000:]
    assert brought == [outputs()] * RUNS
    runs = stored_runs(services.data_dir)
    assert len(runs) == 2 * RUNS, "every run called one other, once"
    calls = dict(services.simulator.stats().by_key)
    check(runs, calls)
    repeated = {key for key, count in known.items() if calls.get(key, 0) != count}
    assert repeated == set(), "outcomes were in the journal and their steps were called again"
    lost = sum(len(run.of("AttemptLost")) for run in runs.values())
    assert lost >= KILLS, lost
    assert integrity(services.data_dir) == "ok"
