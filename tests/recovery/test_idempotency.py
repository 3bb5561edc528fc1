"""One key, a hundred clients at the same time, a process that is killed meanwhile: one run, one batch.

Clients do what clients do: they send the same request again while they have no answer, or are told that
the first one is in flight.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp
import pytest

from tests.recovery.chain import LABEL, outputs_of, submission
from tests.recovery.crashing import CRASH_AT, PASSAGES
from tests.recovery.services import CRASHING, Client, Services, client_of
from tests.recovery.stored import integrity, stored_runs
from tests.service_process import ServiceProcess, free_port

CLIENTS: Final = 100
KEY: Final = {"Idempotency-Key": "order-4711"}
JSON: Final = {"Content-Type": "application/json"}
POINTS: Final[Sequence[object]] = (
    None,
    pytest.param("commit.before:1", marks=pytest.mark.chaos),
    "commit.after:1",
    pytest.param("acknowledge.before:1", marks=pytest.mark.chaos),
    "acknowledge.before:40",
)
BATCH_POINTS: Final[Sequence[object]] = (
    pytest.param("batch.before:1", marks=pytest.mark.chaos),
    "batch.after:1",
    pytest.param("acknowledge.before:1", marks=pytest.mark.chaos),
)
PATIENCE: Final = 0.02
"""Seconds between two tries of a client."""
GIVE_UP: Final = 60.0
BATCH_RUNS: Final = 3_000
BATCH: Final[Mapping[str, Any]] = {
    "workflow": {"name": "many", "steps": [{"id": "one", "type": "transform", "expression": "inputs.x"}]},
    "runs": [{"inputs": {"x": x}} for x in range(BATCH_RUNS)],
}
KILLED_AFTER: Final = (0.02, 0.08, 0.16, 0.3)
"""Seconds from the request: while it is read, checked, stored, answered."""


async def answered(http: aiohttp.ClientSession, path: str, body: Mapping[str, Any]) -> tuple[int, bytes]:
    """What a client gets in the end that sends the same again and again."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            try:
                async with http.post(path, data=json.dumps(body), headers=KEY | JSON) as answer:
                    content = await answer.read()
                    if answer.status != 409:
                        return answer.status, content
                    assert b"idempotency_key_in_use" in content
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
                pass
            await asyncio.sleep(PATIENCE)


async def crowd(url: str, path: str, bodies: Sequence[Mapping[str, Any]]) -> list[tuple[int, bytes]]:
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(url, connector=connector) as http:
        return await asyncio.gather(*(answered(http, path, body) for body in bodies))


def other_body_is_refused(client: Client) -> None:
    answer = client.http.post("/v1/runs", json=submission("pong"), headers=KEY)
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


def start(services: Services, port: int, point: str | None) -> ServiceProcess:
    if point is None:
        return services.ready(port=port)
    environment = {PASSAGES: str(services.folder / "passages"), CRASH_AT: point}
    service = services.start(command=CRASHING, environment=environment, port=port)
    service.wait_ready()
    return service


@pytest.mark.parametrize("point", POINTS)
async def test_a_hundred_submissions_under_one_key_are_one_run(services: Services, point: str | None) -> None:
    port = free_port()
    service = await asyncio.to_thread(start, services, port, point)
    clients = asyncio.create_task(crowd(service.url, "/v1/runs", [submission("ping")] * CLIENTS))
    if point is not None:
        assert await asyncio.to_thread(service.wait) == -9, service.log()
        service = await asyncio.to_thread(start, services, port, None)
    answers = await clients
    assert {status for status, _ in answers} == {202}
    assert len({content for _, content in answers}) == 1, "every client has the same answer"
    with client_of(service) as client:
        other_body_is_refused(client)
        (run,) = client.runs()
        assert client.ended(run["id"])["outputs"] == outputs_of("ping")
    service.kill()
    assert [run.labels[LABEL] for run in stored_runs(services.data_dir).values()] == ["ping"]
    assert integrity(services.data_dir) == "ok"


async def test_of_two_requests_under_one_key_the_first_one_wins(services: Services) -> None:
    service = services.ready()
    bodies = [submission("ping" if number % 2 else "pong") for number in range(CLIENTS)]
    answers = await crowd(service.url, "/v1/runs", bodies)
    assert sorted(status for status, _ in answers) == [202] * (CLIENTS // 2) + [422] * (CLIENTS // 2)
    with client_of(service) as client:
        assert len(client.runs()) == 1


@pytest.mark.parametrize("point", BATCH_POINTS)
async def test_a_batch_killed_at_a_point_is_there_once(services: Services, point: str) -> None:
    port = free_port()
    service = await asyncio.to_thread(start, services, port, point)
    clients = asyncio.create_task(crowd(service.url, "/v1/runs:batch", [BATCH] * 5))
    assert await asyncio.to_thread(service.wait) == -9, service.log()
    service = await asyncio.to_thread(start, services, port, None)
    check_batch(services, service, await clients)


async def test_a_batch_killed_again_and_again_is_there_once(services: Services) -> None:
    port = free_port()
    service = await asyncio.to_thread(start, services, port, None)
    clients = asyncio.create_task(crowd(service.url, "/v1/runs:batch", [BATCH] * 3))
    for seconds in KILLED_AFTER:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(service.kill)
        service = await asyncio.to_thread(start, services, port, None)
    check_batch(services, service, await clients)


def check_batch(services: Services, service: ServiceProcess, answers: list[tuple[int, bytes]]) -> None:
    assert {status for status, _ in answers} == {202}
    assert len({content for _, content in answers}) == 1, "every client has the same answer"
    with client_of(service) as client:
        found = client.http.post("/v1/runs:batch", content=json.dumps(BATCH), headers=KEY | JSON)
        assert found.headers["idempotency-replayed"] == "true"
        run_ids = found.json()["run_ids"]
        assert client.ended(run_ids[-1])["status"] == "completed"
    service.kill()
    runs = stored_runs(services.data_dir)
    assert sorted(runs) == run_ids
    assert len(runs) == BATCH_RUNS
    assert integrity(services.data_dir) == "ok"
