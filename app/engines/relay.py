"""Live news between the processes that share a store: who wants to hear of which run, and what is told then.

A process makes its wishes known to all others, again and again; who publishes something of a run that another
one wishes to hear tells that one. So a run that nobody elsewhere follows costs a look into an empty table.
What is told to one process keeps its order: deltas, and how far the journal has come. Events themselves are
never told, readers take them from the store.

Nothing rests on it. What is lost is found in the journal by a look (`app.engines.following`), but for deltas,
which are no history. Runs are never kept waiting: what cannot be told is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from app.engines.engine import Delta
from app.engines.live import LiveEvents, Wish
from app.engines.outlet import Outlet
from app.engines.relay_notes import Hello, Message, Tidings, Told, Wishes, Work, read, write
from app.ports.peers import Note, Peers

GATHER_SECONDS: Final = 0.05
"""Between two times that news are told; the first of them goes out at once."""
REFRESH_SECONDS: Final = 5.0
"""How often wishes are repeated: a process that came meanwhile, or missed one, learns of it then."""
LEASE_SECONDS: Final = 16.0
"""How long the wish of a process counts that does not repeat it."""
LAST_WORDS_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Lease:
    wish: Wish
    until: float


class Relay:
    """Implements `app.engines.live.Elsewhere`. Owns its tasks."""

    def __init__(
        self,
        live: LiveEvents,
        peers: Peers,
        *,
        look: Callable[[], None],
        refresh_seconds: float = REFRESH_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """`look` is called where another process stored something to do."""
        self._live = live
        self._peers = peers
        self._look = look
        self._refresh_seconds = refresh_seconds
        self._lease_seconds = lease_seconds
        self._wishes: dict[str, Wish] = {}
        """What is wanted here."""
        self._changed: dict[str, Wish | None] = {}
        """Of that, what others are to hear."""
        self._says_hello = False
        self._says_work = False
        self._asked_by: set[str] = set()
        """Who is to hear all of it."""
        self._wanted: dict[str, dict[str, _Lease]] = {}
        """What others want: by run and process."""
        self._latest: dict[str, Told] = {}
        """Of those runs, what was published last in this process."""
        self._outlets: dict[str, Outlet] = {}
        self._due = asyncio.Event()
        self._urgent = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @property
    def connected(self) -> bool:
        """Whether news from others come, as far as it is known."""
        return self._peers.connected

    async def start(self) -> None:
        """Hear others and be heard from now on."""
        self._live.connect(self)
        await self._peers.start(heard=self._heard, joined=self._joined)
        self._tasks = (
            asyncio.create_task(self._tell(), name="relay-tell"),
            asyncio.create_task(self._refresh(), name="relay-refresh"),
        )

    async def stop(self) -> None:
        """Tell what waits, then hear no more; harmless when not started."""
        tasks, self._tasks = self._tasks, ()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._live.connect(None)
        if tasks:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await self._peers.tell(self._notes())
        await self._peers.stop()

    # --- from here ------------------------------------------------------------------------------------

    def wished(self, run_id: str, wish: Wish | None) -> None:
        """Somebody here wants to hear of a run, or no longer."""
        if wish is None:
            self._wishes.pop(run_id, None)
        else:
            self._wishes[run_id] = wish
        self._changed[run_id] = wish
        self._tell_now()

    def published(self, run_id: str, seq: int, *, ended: bool) -> None:
        """Events up to `seq` are durable."""
        if (wanted := self._wanted.get(run_id)) is None:
            return
        told = self._latest[run_id] = Told(run_id=run_id, seq=seq, ended=ended)
        for name, lease in wanted.items():
            if ended or lease.wish is Wish.EVERYTHING:
                self._outlet(name).tell(told)
                self._due.set()

    def said(self, run_id: str, delta: Delta) -> None:
        """A piece of an answer came."""
        if (wanted := self._wanted.get(run_id)) is None:
            return
        for name, lease in wanted.items():
            if lease.wish is Wish.EVERYTHING:
                self._outlet(name).say(run_id, delta)
                self._due.set()

    def work_waits(self) -> None:
        """Something to do was stored."""
        self._says_work = True
        self._due.set()

    def _outlet(self, name: str) -> Outlet:
        outlet = self._outlets.get(name)
        if outlet is None:
            outlet = self._outlets[name] = Outlet()
        return outlet

    def _tell_now(self) -> None:
        self._urgent.set()
        self._due.set()

    async def _tell(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            self._urgent.clear()
            if self._peers.connected:
                await self._peers.tell(self._notes())
            else:
                self._keep_for_later()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._urgent.wait()

    def _keep_for_later(self) -> None:
        """News wait, within their bound, until others can be reached; wishes are made known anew then."""
        self._changed.clear()
        self._asked_by.clear()
        if self._outlets:
            self._due.set()

    def _notes(self) -> list[Note]:
        """Everything that waits."""
        notes: list[Note] = []
        if self._says_hello:
            self._says_hello = False
            notes += _notes_of(Hello())
        if self._says_work:
            self._says_work = False
            notes += _notes_of(Work())
        asked_by, self._asked_by = self._asked_by, set()
        for name in asked_by:
            notes += _notes_of(Wishes(runs=self._wishes), to=name)
        changed, self._changed = self._changed, {}
        notes += _notes_of(Wishes(runs=changed))
        outlets, self._outlets = self._outlets, {}
        for name, outlet in outlets.items():
            notes += _notes_of(Tidings(items=outlet.take()), to=name)
        return notes

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            self._forget_expired(asyncio.get_running_loop().time())
            self._repeat_wishes()

    def _repeat_wishes(self) -> None:
        if self._wishes:
            self._changed = {**self._changed, **self._wishes}
            self._tell_now()

    # --- from others ----------------------------------------------------------------------------------

    def _joined(self) -> None:
        self._live.forget_horizons()
        self._says_hello = True
        self._repeat_wishes()
        self._tell_now()

    def _heard(self, sender: str, text: str) -> None:
        message: Message | None = read(text)
        match message:
            case Hello():
                self._asked_by.add(sender)
                self._tell_now()
            case Work():
                self._look()
            case Wishes(runs=runs):
                self._want(sender, runs)
            case Tidings(items=items):
                for item in items:
                    if isinstance(item, Told):
                        self._live.hear(item.run_id, item.seq, ended=item.ended)
                    else:
                        self._live.hear_delta(item.run_id, item.delta)
            case None:
                pass
            case _:
                assert_never(message)

    def _want(self, sender: str, runs: Mapping[str, Wish | None]) -> None:
        until = asyncio.get_running_loop().time() + self._lease_seconds
        for run_id, wish in runs.items():
            if wish is None:
                self._unwant(sender, run_id)
                continue
            self._wanted.setdefault(run_id, {})[sender] = _Lease(wish, until)
            latest = self._latest.get(run_id)
            if latest is not None and (latest.ended or wish is Wish.EVERYTHING):
                # It may have missed it. Behind what waits, so that nothing overtakes a delta.
                self._outlet(sender).tell(latest)
                self._due.set()

    def _unwant(self, sender: str, run_id: str) -> None:
        leases = self._wanted.get(run_id)
        if leases is None:
            return
        leases.pop(sender, None)
        if not leases:
            del self._wanted[run_id]
            self._latest.pop(run_id, None)

    def _forget_expired(self, now: float) -> None:
        expired = [
            (name, run_id)
            for run_id, leases in self._wanted.items()
            for name, lease in leases.items()
            if lease.until < now
        ]
        for name, run_id in expired:
            self._unwant(name, run_id)


def _notes_of(message: Message, *, to: str | None = None) -> list[Note]:
    return [Note(to=to, text=text) for text in write(message)]
