"""A run's events as they come, from the journal.

The stream hears that there is news and reads the rows from the store, a page at a time, when its reader
is ready for more: so there is no gap and no duplicate, and a reader that stands still holds no memory.
Only deltas are buffered, by the listener, and bounded. A generator that is left early is to be closed by
whoever left it (`contextlib.aclosing`), or the listener would live until it is collected.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

from app.engines.engine import Delta, Engine, Listener
from app.ports.runs import Journal, JournalRow
from app.services.run_events import TERMINAL_ROWS, RunEvent, event_of_delta, event_of_row

PAGE_ROWS = 256
STANDBY_POLL_SECONDS = 1.0
"""How often a process that does not execute looks for what another one appended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """Nothing happened for a while."""


class EventStream:
    """One reader's way through one run."""

    def __init__(
        self,
        *,
        run_id: str,
        after: int,
        journal: Journal,
        finished: Callable[[], Awaitable[bool]],
        engine: Engine,
        closing: asyncio.Event,
    ) -> None:
        """`finished` tells whether the stored run has ended."""
        self._run_id = run_id
        self._seq = after
        self._journal = journal
        self._finished = finished
        self._engine = engine
        self._closing = closing
        self._ended = False

    async def items(self, *, heartbeat_seconds: float) -> AsyncGenerator[RunEvent | Heartbeat, None]:
        """Events with seq > `after` until the run has ended, or until the process is closing.

        A heartbeat comes where nothing else came for that long, however often the journal was looked at.
        """
        loop = asyncio.get_running_loop()
        with self._engine.listen(self._run_id) as listener:
            closing = asyncio.ensure_future(self._closing.wait())
            due = loop.time() + heartbeat_seconds
            try:
                while True:
                    async with aclosing(self._until_now(listener)) as events:
                        async for event in events:
                            yield event
                            due = loop.time() + heartbeat_seconds
                    if self._ended or closing.done():
                        return
                    if not await self._news(listener, closing, due - loop.time()) and loop.time() >= due:
                        yield Heartbeat()
                        due = loop.time() + heartbeat_seconds
            finally:
                closing.cancel()

    async def _until_now(self, listener: Listener) -> AsyncGenerator[RunEvent, None]:
        """What has come, up to this moment.

        A reader may have asked for more than there will ever be, so where nothing came the run's row tells
        whether something can. The terminal event may be stored between the two reads: hence the last one.
        """
        before = self._seq
        heard = False
        async with aclosing(self._catch_up(listener)) as events:
            async for event in events:
                heard = True
                yield event
        if heard or self._seq != before or not await self._finished():
            return
        async with aclosing(self._catch_up(listener)) as events:
            async for event in events:
                yield event
        self._ended = True

    async def _catch_up(self, listener: Listener) -> AsyncGenerator[RunEvent, None]:
        """Deltas are taken before the rows are read, so none comes after the end of its attempt."""
        while True:
            deltas = listener.deltas()
            rows = await self._journal.read(self._run_id, after=self._seq, limit=PAGE_ROWS)
            for event in _merged(self._run_id, rows, deltas):
                yield event
            if rows:
                self._seq = rows[-1].seq
                self._ended = rows[-1].type in TERMINAL_ROWS
            if len(rows) < PAGE_ROWS:
                return

    async def _news(self, listener: Listener, closing: asyncio.Future[Literal[True]], seconds: float) -> bool:
        """Wait for news, or for the end of the process; False if neither came in time."""
        if self._engine.stats().role != "executor":
            seconds = min(seconds, STANDBY_POLL_SECONDS)
        news = asyncio.ensure_future(listener.wait(after=self._seq, seconds=max(0.0, seconds)))
        try:
            await asyncio.wait((news, closing), return_when=asyncio.FIRST_COMPLETED)
            return closing.done() or (news.done() and news.result())
        finally:
            news.cancel()


def _merged(run_id: str, rows: Sequence[JournalRow], deltas: Sequence[Delta]) -> list[RunEvent]:
    """Rows in the order of the journal, each delta before the first row that is younger."""
    merged: list[RunEvent] = []
    waiting = list(reversed(deltas))
    for row in rows:
        while waiting and waiting[-1].at < row.at:
            merged.append(event_of_delta(run_id, waiting.pop()))
        event = event_of_row(row)
        if event is not None:
            merged.append(event)
    merged.extend(event_of_delta(run_id, delta) for delta in reversed(waiting))
    return merged
