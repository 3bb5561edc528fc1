"""A run's events as they come, from the journal.

The stream hears that there is news and reads the rows from the store, a page at a time, when its reader
is ready for more: so there is no gap and no duplicate, and a reader that stands still holds no memory.
Only deltas are buffered, by the listener, and bounded. Each stands between the event that was the run's last
when it came and the next one: so after the begin of its attempt and before its end, whatever the clocks say
and whichever process executes. One that comes too late for its place is dropped.

A generator that is left early is to be closed by whoever left it (`contextlib.aclosing`), or the listener
would live until it is collected.
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
        self._told = 0
        """`seq` of the last row that was told."""
        self._untold: list[Delta] = []
        """Deltas that came while the journal was read: what they stand behind may not have been read yet."""
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
                    if self._untold:
                        continue
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
        # What waits for its deltas is still to come.
        self._ended = self._ended or not await self._journal.read(self._run_id, after=self._seq, limit=1)

    async def _catch_up(self, listener: Listener) -> AsyncGenerator[RunEvent, None]:
        """Every row that is read has its deltas here: they came before it was stored, or it waits for them.

        Of deltas that came before the rows were read, the begin of the attempt is among what was read.
        """
        while True:
            self._untold += listener.deltas()
            early = len(self._untold)
            rows = await self._journal.read(self._run_id, after=self._seq, limit=PAGE_ROWS)
            horizon = listener.horizon()
            ready = [row for row in rows if horizon is None or row.seq <= horizon]
            self._untold += listener.deltas()
            for event in self._in_order(ready, early if len(rows) < PAGE_ROWS else 0):
                yield event
            if ready:
                self._seq = ready[-1].seq
                self._ended = ready[-1].type in TERMINAL_ROWS
            if len(ready) < PAGE_ROWS:
                return

    def _in_order(self, rows: Sequence[JournalRow], early: int) -> list[RunEvent]:
        """Rows in the order of the journal, each delta in its place; those past the last row if they are
        among the `early` ones, the others stay untold."""
        events: list[RunEvent] = []
        deltas, position = self._untold, 0

        def tell_deltas(before: float, least: int) -> None:
            nonlocal position
            while position < len(deltas) and (deltas[position].after < before or position < least):
                if deltas[position].after >= self._told:
                    events.append(event_of_delta(self._run_id, deltas[position]))
                position += 1

        for row in rows:
            tell_deltas(row.seq, 0)
            event = event_of_row(row)
            if event is not None:
                events.append(event)
            self._told = row.seq
        tell_deltas(max(self._told, self._seq) + 1, early)
        self._untold = deltas[position:]
        return events

    async def _news(self, listener: Listener, closing: asyncio.Future[Literal[True]], seconds: float) -> bool:
        """Wait for news, or for the end of the process; False if neither came in time."""
        news = asyncio.ensure_future(listener.wait(after=self._seq, seconds=max(0.0, seconds)))
        try:
            await asyncio.wait((news, closing), return_when=asyncio.FIRST_COMPLETED)
            return closing.done() or (news.done() and news.result())
        finally:
            news.cancel()
