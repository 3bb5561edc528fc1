"""What comes to a runner from outside its core: an event, its data, and who waits for it to be durable."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.core.events import Event
from app.ports.records import record


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
