"""The in-memory twin of the processes that share a store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import uuid4

from app.ports.peers import Heard, Note


@dataclass(slots=True, eq=False)
class PeerRoom:
    """Where in-memory peers hear each other."""

    present: dict[str, Heard] = field(default_factory=dict)


class MemoryPeers:
    """`app.ports.peers.Peers` among those that share a room; alone it talks to nobody."""

    def __init__(self, room: PeerRoom | None = None) -> None:
        self.name = uuid4().hex
        self._room = PeerRoom() if room is None else room

    @property
    def connected(self) -> bool:
        """Whether it is in the room."""
        return self.name in self._room.present

    async def start(self, *, heard: Heard, joined: Callable[[], None]) -> None:
        """Enter."""
        self._room.present[self.name] = heard
        joined()

    async def tell(self, notes: Sequence[Note]) -> None:
        """Say it to those who are there; they hear it in the next turn of the loop."""
        if not self.connected:
            return
        loop = asyncio.get_running_loop()
        for note in notes:
            names = [*self._room.present] if note.to is None else [note.to]
            for name in names:
                heard = self._room.present.get(name)
                if heard is not None and name != self.name:
                    loop.call_soon(heard, self.name, note.text)

    async def stop(self) -> None:
        """Leave."""
        self._room.present.pop(self.name, None)
