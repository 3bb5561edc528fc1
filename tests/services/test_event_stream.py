"""The order of events and deltas, however they meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from app.core import events as e
from app.engines.codec import encode
from app.engines.engine import Delta, Engine
from app.engines.following import Following
from app.engines.live import LiveListener
from app.ports.runs import Journal, JournalRow
from app.services.event_stream import EventStream, Heartbeat
from app.services.run_events import RunEvent

AT = 100.0
STARTED = e.RunStarted(at=AT)


def attempt(path: str) -> e.Event:
    return e.AttemptStarted(path=path, attempt=1, at=AT)


def done(path: str) -> e.Event:
    return e.StepSucceeded(path=path, attempt=1, at=AT)


def delta(text: str, after: int, path: str = "a") -> Delta:
    """From the future and the past by turns: what clocks say does not matter."""
    return Delta(path=path, attempt=1, text=text, at=AT + (-1) ** len(text) * 50, after=after)


@dataclass
class Stored:
    """A journal whose reads can be looked over the shoulder."""

    events: list[e.Event] = field(default_factory=list)
    during: list[Callable[[], None]] = field(default_factory=list)
    """What happens right after the rows of a read were found, one a read."""

    async def read(
        self, run_id: str, *, after: int = 0, limit: int | None = None, max_bytes: int | None = None
    ) -> Sequence[JournalRow]:
        rows = [encode(run_id, seq, event, None, None) for seq, event in enumerate(self.events, 1)]
        found = [row for row in rows if row.seq > after][:limit]
        await asyncio.sleep(0)
        if self.during:
            self.during.pop(0)()
        return found

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], e.RunCompleted)


class Reader:
    """A stream over such a journal, by the ear of a process that does not execute."""

    def __init__(self, stored: Stored, *, here: bool = False, connected: bool = True) -> None:
        self.stored = stored
        self.ear = LiveListener()
        self.connected = connected
        journal = cast("Journal", stored)
        self._following = Following(
            self.ear, journal, "r", here=lambda: here, connected=lambda: self.connected
        )
        self._stream = EventStream(
            run_id="r",
            after=0,
            journal=journal,
            finished=self._finished,
            engine=cast("Engine", self),
            closing=asyncio.Event(),
        )

    def listen(self, run_id: str) -> AbstractContextManager[Following]:
        return nullcontext(self._following)

    async def _finished(self) -> bool:
        return self.stored.ended

    async def seen(self) -> list[str]:
        """Everything, in short."""
        async with asyncio.timeout(10):
            return [short(item) async for item in self._stream.items(heartbeat_seconds=5)]

    def items(self) -> AsyncIterator[RunEvent | Heartbeat]:
        return self._stream.items(heartbeat_seconds=5)


def short(item: RunEvent | Heartbeat) -> str:
    if isinstance(item, Heartbeat):
        return "-"
    told: dict[str, Any] = dict(item.data)
    return told.get("text") or f"{item.type.removeprefix('step.')} {item.path or ''}".strip()


END = e.RunCompleted(at=AT)
WHOLE = [STARTED, attempt("a"), done("a"), END]
IN_ORDER = ["run.started", "started a", "x", "xy", "completed a", "run.completed"]


async def test_a_delta_that_comes_after_the_end_of_its_attempt_is_dropped() -> None:
    stored = Stored(WHOLE[:3])
    reader = Reader(stored)
    items = reader.items()
    assert [short(await anext(items)) for _ in range(3)] == ["run.started", "started a", "completed a"]
    reader.ear.hear_delta(delta("late", after=2), afar=True)
    stored.events.append(END)
    reader.ear.hear_from_afar(4)
    assert [short(item) async for item in items] == ["run.completed"]


async def test_events_whose_deltas_never_come_are_not_held_back_for_ever() -> None:
    stored = Stored(WHOLE)
    reader = Reader(stored)
    reader.ear.hear_from_afar(2)
    assert await reader.seen() == ["run.started", "started a", "completed a", "run.completed"]


async def test_events_wait_for_no_deltas_while_none_can_come() -> None:
    reader = Reader(Stored(WHOLE), connected=False)
    reader.ear.hear_from_afar(2)
    async with asyncio.timeout(0.4):
        assert await reader.seen() == ["run.started", "started a", "completed a", "run.completed"]


async def test_events_wait_for_the_deltas_before_them() -> None:
    stored = Stored(WHOLE)
    reader = Reader(stored)
    reader.ear.hear_from_afar(2)

    def rest() -> None:
        reader.ear.hear_delta(delta("x", after=2), afar=True)
        reader.ear.hear_delta(delta("xy", after=2), afar=True)
        reader.ear.hear_from_afar(4)

    asyncio.get_running_loop().call_later(0.05, rest)
    assert await reader.seen() == IN_ORDER


@pytest.mark.parametrize("turns", range(6))
async def test_deltas_that_come_while_the_journal_is_read_are_in_their_place(turns: int) -> None:
    """As in the process that executes: they are heard before what follows them is stored."""
    stored = Stored(WHOLE[:2])
    reader = Reader(stored, here=True)
    loop = asyncio.get_running_loop()

    def rest(turns: int) -> None:
        if turns:
            loop.call_soon(rest, turns - 1)
            return
        reader.ear.hear_delta(delta("xy", after=2))
        stored.events += WHOLE[2:]
        reader.ear.hear(4)

    def meanwhile() -> None:
        reader.ear.hear_delta(delta("x", after=2))
        rest(turns)

    stored.during = [meanwhile]
    assert await reader.seen() == IN_ORDER


async def test_a_delta_of_an_attempt_whose_begin_was_not_read_yet_waits_for_it() -> None:
    stored = Stored([STARTED])
    reader = Reader(stored, here=True)

    def meanwhile() -> None:
        stored.events.append(attempt("a"))
        reader.ear.hear(2)
        reader.ear.hear_delta(delta("x", after=2))

    stored.during = [meanwhile]
    items = reader.items()
    assert [short(await anext(items)) for _ in range(3)] == ["run.started", "started a", "x"]


async def test_deltas_flow_while_the_event_before_them_is_not_stored_yet() -> None:
    """Another step's outcome was folded, and the store takes no writes."""
    stored = Stored([STARTED, attempt("a"), attempt("b")])
    reader = Reader(stored, here=True)
    reader.ear.hear(3)
    reader.ear.hear_delta(delta("x", after=4))
    items = reader.items()
    first = [short(await anext(items)) for _ in range(4)]
    assert first == ["run.started", "started a", "started b", "x"]


async def test_steps_side_by_side_keep_their_words_between_begin_and_end() -> None:
    stored = Stored([STARTED, attempt("a"), attempt("b"), done("a"), done("b"), END])
    reader = Reader(stored)
    for one in (delta("a1", 3), delta("b1", 3, "b"), delta("b2", 4, "b")):
        reader.ear.hear_delta(one, afar=True)
    reader.ear.hear_from_afar(6)
    assert await reader.seen() == [
        "run.started",
        "started a",
        "started b",
        "a1",
        "b1",
        "completed a",
        "b2",
        "completed b",
        "run.completed",
    ]


async def test_what_nobody_told_of_is_found_by_a_look() -> None:
    stored = Stored(WHOLE[:2])
    reader = Reader(stored)
    items = reader.items()
    assert [short(await anext(items)) for _ in range(2)] == ["run.started", "started a"]
    stored.events += WHOLE[2:]
    async with asyncio.timeout(2):
        assert [short(item) async for item in items] == ["completed a", "run.completed"]
