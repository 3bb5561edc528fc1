"""What a runner takes and gives: an event from outside its core, and the rows that come of such."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.core.events import Event
from app.ports.records import record
from app.ports.runs import JournalRow, StatusChange


@record
class Fact:
    """One event on its way into the journal.

    `data` travels beside it; `encoded` is its JSON where that was made already. `durable` gets True once
    the event is in the journal, and False if it could not happen any more.
    """

    event: Event
    data: Mapping[str, Any] | None = None
    encoded: bytes | None = None
    durable: asyncio.Future[bool] | None = None

    def at(self, at: float) -> Fact:
        """The same, of another time."""
        return replace(self, event=replace(self.event, at=at))


@record
class Batch:
    """Events to append together, and what else changes with them."""

    rows: Sequence[JournalRow]
    change: StatusChange | None
