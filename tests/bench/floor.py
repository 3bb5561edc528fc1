"""The floors, a process of their own: the same provider calls without any orchestration.

`bare` makes the calls and forgets; `durable` also commits every step's outcome to SQLite
(`synchronous=FULL`) before it goes on, all waiting outcomes in one transaction. `fastapi` serves the bare
calls behind a FastAPI handler, for the load generator to ask.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import queue
import sqlite3
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import uvicorn
import uvloop
from fastapi import FastAPI

from tests.bench.closed_loop import measure
from tests.bench.workloads import CHAT_BODY, EMBED_BODY, WORKLOADS

PATHS = {"chat": ("/v1/chat/completions", CHAT_BODY), "embed": ("/v1/embeddings", EMBED_BODY)}
Save = Callable[[bytes], Awaitable[None]]


async def calls(
    session: aiohttp.ClientSession, base: str, stages: tuple[tuple[str, ...], ...], save: Save
) -> None:
    """One run's calls, stage by stage."""

    async def call(kind: str) -> None:
        path, body = PATHS[kind]
        async with session.post(base + path, json=body) as response:
            response.raise_for_status()
            text = await response.read()
            json.loads(text)
        await save(text)

    for stage in stages:
        if len(stage) == 1:
            await call(stage[0])
        else:
            await asyncio.gather(*(call(kind) for kind in stage))


class GroupCommit:
    """Outcomes to SQLite, all that wait in one transaction, on one thread."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._path = path
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    async def save(self, outcome: bytes) -> None:
        """Return once it is durable."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._queue.put((outcome, done))
        await done

    def close(self) -> None:
        """Stop the thread."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE outcomes (id INTEGER PRIMARY KEY, body BLOB)")
        item = self._queue.get()
        while item is not None:
            batch = [item]
            while not self._queue.empty() and (further := self._queue.get()) is not None:
                batch.append(further)
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO outcomes (body) VALUES (?)", [(body,) for body, _ in batch])
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, [done for _, done in batch])
            item = self._queue.get()
        connection.close()


def _resolve(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


async def forget(outcome: bytes) -> None:
    """Keep nothing."""


async def run_floor(args: argparse.Namespace) -> str:
    """Measure one floor; JSON."""
    stages = WORKLOADS[args.workload].stages
    with tempfile.TemporaryDirectory() as folder:
        commit = GroupCommit(Path(folder) / "floor.db") if args.mode == "durable" else None
        save = commit.save if commit else forget
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def once() -> bool:
                try:
                    await calls(session, args.base, stages, save)
                except aiohttp.ClientError:
                    return False
                return True

            result = await measure(
                once, concurrency=args.concurrency, seconds=args.seconds, warmup=args.warmup
            )
        if commit:
            commit.close()
    return json.dumps(result.as_dict())


def bare_app(base: str, workload: str) -> FastAPI:
    """A handler that makes the calls and answers: what an application writes without an engine."""
    app = FastAPI()
    sessions: list[aiohttp.ClientSession] = []

    @app.post("/run")
    async def run(body: dict[str, object]) -> dict[str, object]:
        if not sessions:
            sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        await calls(sessions[0], base, WORKLOADS[workload].stages, forget)
        return {"status": "completed", "inputs": body}

    return app


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("mode", choices=["bare", "durable", "fastapi"])
    parser.add_argument("--base", required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warmup", type=float, default=1.0)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    if args.mode == "fastapi":
        uvicorn.run(bare_app(args.base, args.workload), port=args.port, log_level="error", access_log=False)
        return
    print(uvloop.run(run_floor(args)))  # noqa: T201  the answer to the parent process


if __name__ == "__main__":
    main()
