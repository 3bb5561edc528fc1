"""`python -m tests.recovery.crashing --port P --data-dir D`: the service, which dies where it is told to.

The environment names the place and the time: `CRASH_AT=append.before:2` is a SIGKILL to itself right
before the second append to the journal. Every passage is written to the file named by `PASSAGES` before
that, so that a run without `CRASH_AT` lists all there is.

| place | before | after |
|---|---|---|
| create | the run is handed to the store | the store said it is durable |
| batch | the runs of a batch are handed to the store | the store said they are durable |
| commit | a group commit, in the writer's thread | the commit, before the loop hears of it |
| append | events are handed to the store | the store said they are durable |
| dispatch | a call goes to the provider | its answer is read |
| acknowledge | the first byte of the 202 | its last byte |
"""

from __future__ import annotations

import argparse
import functools
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.bootstrap import Overrides, build
from app.ports.http import HttpResponse
from app.ports.runs import Store
from app.providers.transport import Call, StreamedAnswer, Transport
from app.server import listen, serve
from app.settings import ServerSettings, Settings
from app.stores.sql.sqlite import SqliteStore

CRASH_AT = "CRASH_AT"
PASSAGES = "PASSAGES"
ACCEPTED = 202

P = ParamSpec("P")
T = TypeVar("T")


class Passages:
    """Counts the passages of each point, and dies at the chosen one."""

    def __init__(self, crash_at: str | None, record: Path) -> None:
        self._crash_at = crash_at
        self._record = record
        self._counts: Counter[str] = Counter()

    def passed(self, point: str) -> None:
        """A point is reached; there may be no way on from here."""
        self._counts[point] += 1
        passage = f"{point}:{self._counts[point]}"
        with self._record.open("a") as record:
            record.write(f"{passage}\n")
        if passage == self._crash_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, place: str, function: Callable[P, T]) -> Callable[P, T]:
        """The same function, with a point on either side."""

        @functools.wraps(function)
        def between(*args: P.args, **options: P.kwargs) -> T:
            self.passed(f"{place}.before")
            result = function(*args, **options)
            self.passed(f"{place}.after")
            return result

        return between

    def around_waiting(self, place: str, function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """The same for a coroutine function."""

        @functools.wraps(function)
        async def between(*args: P.args, **options: P.kwargs) -> T:
            self.passed(f"{place}.before")
            result = await function(*args, **options)
            self.passed(f"{place}.after")
            return result

        return between


def around_store(passages: Passages, store: Store) -> Store:
    """Points around what a run writes; the store itself stays the one that ships."""
    session = cast("SqliteStore", store)._writer._session
    watched: tuple[tuple[Any, str, str, Any], ...] = (
        (store.runs, "create", "create", passages.around_waiting),
        (store.runs, "create_many", "batch", passages.around_waiting),
        (store.journal, "append", "append", passages.around_waiting),
        (session, "commit", "commit", passages.around),
    )
    for owner, method, place, around in watched:
        setattr(owner, method, around(place, getattr(owner, method)))
    return store


class WatchedTransport(Transport):
    """Real sockets, with points around every call."""

    passages: Passages

    async def exchange(self, call: Call) -> HttpResponse:
        """See `Transport`."""
        return await self.passages.around_waiting("dispatch", super().exchange)(call)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamedAnswer]:
        """See `Transport`."""
        self.passages.passed("dispatch.before")
        async with super().stream(call) as answer:
            yield answer
        self.passages.passed("dispatch.after")


class Acknowledgements:
    """ASGI middleware with points around the 202 of a submission."""

    def __init__(self, app: ASGIApp, passages: Passages) -> None:
        self._app = app
        self._passages = passages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch what is sent."""
        accepted = False

        async def watched(message: Message) -> None:
            nonlocal accepted
            if message["type"] == "http.response.start" and message["status"] == ACCEPTED:
                accepted = True
                self._passages.passed("acknowledge.before")
            await send(message)
            if accepted and message["type"] == "http.response.body" and not message.get("more_body"):
                self._passages.passed("acknowledge.after")

        await self._app(scope, receive, watched)


async def run(settings: Settings, passages: Passages) -> None:
    """Serve with points everywhere."""
    transport = WatchedTransport.over_sockets()
    assert isinstance(transport, WatchedTransport)
    transport.passages = passages
    around = functools.partial(around_store, passages)
    service = build(settings, Overrides(around_store=around, transport=transport))
    service.app.add_middleware(Acknowledgements, passages=passages)
    await serve(service, settings.server, listen(settings.server))


def main() -> None:
    """Read the command line, as `llm-orchestrator serve` does."""
    parser = argparse.ArgumentParser(prog="python -m tests.recovery.crashing")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    given = parser.parse_args()
    passages = Passages(os.environ.get(CRASH_AT), Path(os.environ[PASSAGES]))
    settings = Settings(server=ServerSettings(port=given.port), data_dir=given.data_dir)
    uvloop.run(run(settings, passages))


if __name__ == "__main__":
    main()
