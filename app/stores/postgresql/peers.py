"""The processes that share a database: they tell each other by `NOTIFY`, each on a channel of its own.

Notes go over the connection on which this process listens, never over the one that writes: a transaction that
notifies waits at its commit for every other one that does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Final
from uuid import uuid4

import structlog

from app.ports.peers import Heard, Note
from app.stores.postgresql.faults import ERRORS
from app.stores.postgresql.news import News

CHANNEL: Final = "orchestrator_live"
"""For all; with the name of a process behind it, for that process."""

log = structlog.get_logger(__name__)


class PostgresPeers:
    """`app.ports.peers.Peers` over what the store listens with, before that is started."""

    def __init__(self, news: News) -> None:
        self.name = uuid4().hex
        self._news = news
        self._count = count()
        """The server drops one of two notifications of a transaction that are the same."""
        self._heard: Heard | None = None
        self._joined: Callable[[], None] | None = None
        news.follow(CHANNEL, self._notified)
        news.follow(f"{CHANNEL}_{self.name}", self._notified)
        news.on_joined(self._connected_anew)

    @property
    def connected(self) -> bool:
        """Whether the connection stands."""
        return self._heard is not None and self._news.connected

    async def start(self, *, heard: Heard, joined: Callable[[], None]) -> None:
        """Pass on what comes."""
        self._heard, self._joined = heard, joined
        if self._news.connected:
            joined()

    async def tell(self, notes: Sequence[Note]) -> None:
        """Say it in one transaction."""
        if not notes or not self.connected:
            return
        said = [(self._channel(note), f"{self.name} {next(self._count)} {note.text}") for note in notes]
        try:
            await self._news.notify(said)
        except ERRORS as error:
            log.warning("peers.not_told", notes=len(notes), error=type(error).__name__)

    async def stop(self) -> None:
        """Pass nothing on any more."""
        self._heard = self._joined = None

    @staticmethod
    def _channel(note: Note) -> str:
        return CHANNEL if note.to is None else f"{CHANNEL}_{note.to}"

    def _notified(self, payload: str) -> None:
        sender, _, rest = payload.partition(" ")
        if self._heard is not None and sender != self.name:
            self._heard(sender, rest.partition(" ")[2])

    def _connected_anew(self) -> None:
        if self._joined is not None:
            self._joined()
