"""What the processes that share a store tell each other: short notes, to those that listen at the moment.

Nothing is kept and nothing is certain: a note may be lost, so nothing may rest on one. What does arrive from
one sender arrives whole, once, and in the order in which it was told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

MAX_NOTE_BYTES: Final = 7000
"""Of a note's text in UTF-8."""

Heard = Callable[[str, str], None]
"""Is called with the name of the sender and the text of a note, on the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of text to tell. `to` is the name of a process; None is for all but the sender."""

    to: str | None = None
    text: str


class Peers(Protocol):
    """The other processes on the store, as far as they listen."""

    @property
    def name(self) -> str:
        """What others call this process."""
        ...

    @property
    def connected(self) -> bool:
        """Whether notes can come and go, as far as it is known."""
        ...

    async def start(self, *, heard: Heard, joined: Callable[[], None]) -> None:
        """Listen from now on. `joined` is called when notes can come, and again each time that some may
        have been missed. What keeps this process from listening is logged and raises nothing."""
        ...

    async def tell(self, notes: Sequence[Note]) -> None:
        """Tell others, within seconds; what cannot be told is lost. Raises nothing but cancellation."""
        ...

    async def stop(self) -> None:
        """Listen no longer; harmless when not started."""
        ...
