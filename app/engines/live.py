"""News of runs for whoever listens in this process: "there is more", and token deltas.

A listener holds no events, it only learns how far the journal has come; readers take the rows from the
store. So a reader that stands still costs nothing, and none can miss or repeat an event.

News come from the runs that this process executes, and through `Elsewhere` from those that others do. What is
published here is passed on to them as it is to listeners.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Protocol

from app.engines.engine import Delta

MAX_DELTAS = 1024
"""Deltas kept for a listener that does not take them; older ones are dropped."""


class Wish(IntEnum):
    """What somebody wants to hear of a run."""

    END = 1
    EVERYTHING = 2


class Elsewhere(Protocol):
    """The other processes on the store. Nothing here waits for them."""

    @property
    def connected(self) -> bool:
        """Whether their news come, as far as it is known."""
        ...

    def wished(self, run_id: str, wish: Wish | None) -> None:
        """From here on this is wanted of a run; None: nothing any more."""
        ...

    def published(self, run_id: str, seq: int, *, ended: bool) -> None:
        """Events up to `seq` are durable."""
        ...

    def said(self, run_id: str, delta: Delta) -> None:
        """A piece of an answer came."""
        ...

    def work_waits(self) -> None:
        """Something that the process that executes has to do was stored here."""
        ...


class LiveListener:
    """One reader's ear."""

    def __init__(self) -> None:
        self._seq = 0
        self._deltas: deque[Delta] = deque(maxlen=MAX_DELTAS)
        self._news = asyncio.Event()
        self._horizon: int | None = None

    async def wait(self, *, after: int, seconds: float) -> bool:
        """Wait for events past `after` or for deltas; False if time ran out."""
        if self._seq <= after and not self._deltas:
            self._news.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._news.wait()
            except TimeoutError:
                return False
        return True

    def deltas(self) -> Sequence[Delta]:
        """Take what came since the last call."""
        taken = tuple(self._deltas)
        self._deltas.clear()
        return taken

    def horizon(self) -> int | None:
        """Deltas from before this event are here; None where that holds for all, or is not known."""
        return self._horizon

    def forget_horizon(self) -> None:
        """What comes from elsewhere may have gaps: wait for no more of it."""
        self._horizon = None

    def hear(self, seq: int) -> None:
        """The journal holds events up to `seq`."""
        self._seq = seq
        self._horizon = None
        self._news.set()

    def hear_from_afar(self, seq: int) -> None:
        """The same, from a process that tells of deltas and events in the order in which they came."""
        self._seq = max(self._seq, seq)
        self._advance(seq)
        self._news.set()

    def hear_delta(self, delta: Delta, *, afar: bool = False) -> None:
        """A piece of an answer came."""
        if afar:
            self._advance(delta.after)
        self._deltas.append(delta)
        self._news.set()

    def _advance(self, seq: int) -> None:
        self._horizon = seq if self._horizon is None else max(self._horizon, seq)


class LiveEvents:
    """Who listens to which run."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[LiveListener]] = {}
        self._awaiting: dict[str, list[Callable[[], None]]] = {}
        self._elsewhere: Elsewhere | None = None

    @property
    def connected(self) -> bool:
        """Whether news come of runs that other processes execute."""
        return self._elsewhere is not None and self._elsewhere.connected

    def connect(self, elsewhere: Elsewhere | None) -> None:
        """Exchange news with other processes; None: no longer."""
        self._elsewhere = elsewhere
        if elsewhere is not None:
            for run_id in self._listeners.keys() | self._awaiting.keys():
                elsewhere.wished(run_id, self._wish(run_id))

    @contextmanager
    def listen(self, run_id: str) -> Iterator[LiveListener]:
        """Listen for as long as the context is open."""
        listener = LiveListener()
        before = self._wish(run_id)
        self._listeners.setdefault(run_id, set()).add(listener)
        self._pass_wish_on(run_id, before)
        try:
            yield listener
        finally:
            before = self._wish(run_id)
            listeners = self._listeners[run_id]
            listeners.discard(listener)
            if not listeners:
                del self._listeners[run_id]
            self._pass_wish_on(run_id, before)

    @contextmanager
    def awaiting(self, run_id: str, ended: Callable[[], None]) -> Iterator[None]:
        """Have `ended` called when the run's end is heard of, for as long as the context is open."""
        before = self._wish(run_id)
        self._awaiting.setdefault(run_id, []).append(ended)
        self._pass_wish_on(run_id, before)
        try:
            yield
        finally:
            before = self._wish(run_id)
            self._awaiting[run_id].remove(ended)
            if not self._awaiting[run_id]:
                del self._awaiting[run_id]
            self._pass_wish_on(run_id, before)

    def publish(self, run_id: str, seq: int, *, ended: bool = False) -> None:
        """Events up to `seq` are durable, the last one among them where the run has ended."""
        for listener in self._listeners.get(run_id, ()):
            listener.hear(seq)
        if ended:
            self._tell_of_end(run_id)
        if self._elsewhere is not None:
            self._elsewhere.published(run_id, seq, ended=ended)

    def publish_delta(self, run_id: str, delta: Delta) -> None:
        """Pass a piece of an answer on."""
        for listener in self._listeners.get(run_id, ()):
            listener.hear_delta(delta)
        if self._elsewhere is not None:
            self._elsewhere.said(run_id, delta)

    def work_waits(self) -> None:
        """Tell the process that executes that something to do was stored."""
        if self._elsewhere is not None:
            self._elsewhere.work_waits()

    # --- from elsewhere -------------------------------------------------------------------------------

    def hear(self, run_id: str, seq: int, *, ended: bool) -> None:
        """Another process published events up to `seq`."""
        for listener in self._listeners.get(run_id, ()):
            listener.hear_from_afar(seq)
        if ended:
            self._tell_of_end(run_id)

    def hear_delta(self, run_id: str, delta: Delta) -> None:
        """Another process passed a piece of an answer on."""
        for listener in self._listeners.get(run_id, ()):
            listener.hear_delta(delta, afar=True)

    def forget_horizons(self) -> None:
        """Some of what others published may have been missed."""
        for listeners in self._listeners.values():
            for listener in listeners:
                listener.forget_horizon()

    def _tell_of_end(self, run_id: str) -> None:
        for ended in self._awaiting.get(run_id, ()):
            ended()

    def _wish(self, run_id: str) -> Wish | None:
        if run_id in self._listeners:
            return Wish.EVERYTHING
        return Wish.END if run_id in self._awaiting else None

    def _pass_wish_on(self, run_id: str, before: Wish | None) -> None:
        wish = self._wish(run_id)
        if wish is not before and self._elsewhere is not None:
            self._elsewhere.wished(run_id, wish)
