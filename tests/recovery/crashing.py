"""`python -m tests.recovery.crashing --port P --data-dir D`: the service, which dies where it is told to.

With `--worker` instead of the port it is a worker.

The environment names the place and the time: `CRASH_AT=append.before:2` is a SIGKILL to itself right
before the second append to the journal. Every passage is written to the file named by `PASSAGES` before
that, so that a run without `CRASH_AT` lists all there is.

| place | before | after |
|---|---|---|
| create | the run is handed to the store | the store said it is durable |
| batch | the runs of a batch are handed to the store | the store said they are durable |
| commit | a group commit, in the writer's thread | the commit, before the loop hears of it |
| transaction | PostgreSQL's COMMIT of a batch: everything is written | the server said it is committed |
| append | events are handed to the store | the store said they are durable |
| dispatch | a call goes to the provider | its answer is read |
| acknowledge | the first byte of the 202 | its last byte |
| place | Temporal is told of a run, or to wake it | it has heard |
| ask | a control is put into the inbox | it is durable |
| take | a worker takes a run up from its journal | the run has ended or parked, before Temporal hears of it |
| beat | the first heartbeat | it is on its way |
| consume | the inbox is read for a run that is taken up | what was asked is known, and nothing follows yet |
| settle | a control is settled, as the journal has it | it is durable |
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

from app.bootstrap import Overrides, build, build_worker
from app.ports.http import HttpResponse
from app.ports.runs import Store
from app.providers.transport import Call, StreamedAnswer, Transport
from app.server import listen, serve
from app.settings import ServerSettings, Settings
from app.stores.sql.session import WriteSession as SqliteSession
from app.stores.sql.sqlite import SqliteStore
from app.worker import run_worker_process

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
    if not isinstance(session, SqliteSession):
        around_transactions(passages, session)
    watch(
        (store.runs, "create", "create", passages.around_waiting),
        (store.runs, "create_many", "batch", passages.around_waiting),
        (store.journal, "append", "append", passages.around_waiting),
        (store.inbox, "put", "ask", passages.around_waiting),
        (store.inbox, "settle", "settle", passages.around_waiting),
        (session, "commit", "commit", passages.around),
    )
    return store


def watch(*places: tuple[Any, str, str, Any]) -> None:
    """Points around methods: whose, which, the name of the place, and how."""
    for owner, method, place, around in places:
        setattr(owner, method, around(place, getattr(owner, method)))


def around_transactions(passages: Passages, session: Any) -> None:
    """Points around the COMMIT of a batch; how often a probe commits is a matter of chance."""
    from app.stores.postgresql import session as postgresql

    in_batch = False
    commit, commit_batch = postgresql._commit, session.commit
    between = passages.around("transaction", commit)

    def committing(connection: Any) -> None:
        (between if in_batch else commit)(connection)

    def committing_batch(units: Any) -> Any:
        nonlocal in_batch
        in_batch = True
        try:
            return commit_batch(units)
        finally:
            in_batch = False

    postgresql._commit = committing
    session.commit = committing_batch


def around_temporal(passages: Passages) -> None:
    """Points where a process hears from Temporal, or Temporal from it."""
    from temporalio import activity

    from app.engines.temporal.activities import RunActivities
    from app.engines.temporal.client import TemporalClient
    from app.engines.temporal.controls import Controls

    watch(
        (TemporalClient, "place", "place", passages.around_waiting),
        (RunActivities, "_take_up", "take", passages.around_waiting),
        (Controls, "facts", "consume", passages.around_waiting),
        (activity, "heartbeat", "beat", passages.around),
    )


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


def overrides(passages: Passages) -> Overrides:
    """The parts that touch the outside world, with points around them."""
    transport = WatchedTransport.over_sockets()
    assert isinstance(transport, WatchedTransport)
    transport.passages = passages
    return Overrides(around_store=functools.partial(around_store, passages), transport=transport)


async def run(settings: Settings, passages: Passages) -> None:
    """Serve with points everywhere."""
    service = build(settings, overrides(passages))
    service.app.add_middleware(Acknowledgements, passages=passages)
    listener = listen(settings.server.host, settings.server.port)
    await serve(service, settings.server, listener)


async def work(settings: Settings, passages: Passages) -> None:
    """Execute runs with points everywhere."""
    await run_worker_process(settings, build_worker(settings, overrides(passages)))


def main() -> None:
    """Read the command line, as `llm-orchestrator serve` and `worker` do."""
    parser = argparse.ArgumentParser(prog="python -m tests.recovery.crashing")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--port", type=int)
    which.add_argument("--worker", action="store_true")
    parser.add_argument("--data-dir", type=Path, required=True)
    given = parser.parse_args()
    passages = Passages(os.environ.get(CRASH_AT), Path(os.environ[PASSAGES]))
    if given.worker:
        settings = Settings(data_dir=given.data_dir)
    else:
        settings = Settings(server=ServerSettings(port=given.port), data_dir=given.data_dir)
    if settings.engine == "temporal":
        around_temporal(passages)
    uvloop.run(work(settings, passages) if given.worker else run(settings, passages))


if __name__ == "__main__":
    main()
