"""The life of a worker within its process, where no server can be made to fail in time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI

from app.engines.temporal.outbox import NotPlaced
from app.engines.temporal.worker import RunWorker, WorkerConfig
from app.ports.errors import PermanentError
from app.stores.memory import MemoryStore
from app.worker import answering

IDENTITY = "1@here"


class Temporal:
    """What a worker asks of Temporal."""

    heartbeat_seconds = 2.0
    identity = IDENTITY

    def __init__(self) -> None:
        self.polling = {IDENTITY}
        self.asked = 0

    async def owns(self, _token: bytes) -> bool:
        return True

    async def connection(self) -> Any:
        raise AssertionError("nobody connects")

    async def workers(self, _queue: str) -> set[str]:
        self.asked += 1
        return self.polling


def worker_of(client: Temporal, check: Callable[[], Awaitable[None]]) -> RunWorker:
    engine: Any = SimpleNamespace(check=check, loader=None, ended=None, gave_up=None, heard=None)
    config = WorkerConfig(task_queue="q", max_runs=1, grace_seconds=1.0)
    it: Any = client
    tools: Any = None
    return RunWorker(store=MemoryStore(), tools=tools, engine=engine, client=it, config=config)


async def test_a_worker_that_temporal_does_not_answer_stops_when_it_is_told_to() -> None:
    asking, stop = asyncio.Event(), asyncio.Event()

    async def check() -> None:
        asking.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        running = asyncio.create_task(worker_of(Temporal(), check).run(stop))
        await asking.wait()
        stop.set()
        await running


async def test_a_worker_that_can_never_work_says_so() -> None:
    async def check() -> None:
        raise PermanentError("not_found", "no such namespace")

    with pytest.raises(PermanentError, match="no such namespace"):
        await worker_of(Temporal(), check).run(asyncio.Event())


async def test_whether_a_worker_is_heard_is_asked_once_in_a_while_and_at_once_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Temporal()

    async def check() -> None:
        raise NotPlaced("away")

    worker = worker_of(client, check)
    with pytest.raises(NotPlaced, match="not asked yet"):
        await worker.polled()
    monkeypatch.setattr(worker, "_away", "")
    for _ in range(5):
        assert await worker.polled() == "asks for runs of task queue 'q'"
    assert client.asked == 1
    client.polling.clear()
    monkeypatch.setattr(worker, "_polled_until", 0.0)
    for _ in range(2):
        with pytest.raises(NotPlaced, match="does not hear"):
            await worker.polled()
    assert client.asked == 3


async def test_a_worker_whose_probes_end_by_themselves_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended:
        should_exit = False

        async def serve(self, *, sockets: list[socket.socket]) -> None:
            """Ends at once."""

    monkeypatch.setattr("app.worker.http_server", lambda _: Ended())
    told = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(OSError, match="ended by itself"):
        async with asyncio.timeout(10), answering(FastAPI(), listener, failed=told.set):
            await told.wait()
