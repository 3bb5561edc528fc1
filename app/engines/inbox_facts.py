"""Facts out of the inbox: what was asked of a run elsewhere, and who is told what became of it.

A control is settled once the journal says what became of it. If the process dies in between, the next owner
of the run finds the control again, and the journal tells whether it took effect: its id stands beside the
event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from app.engines.codec import decode
from app.engines.facts import Fact
from app.engines.patience import patiently
from app.ports.errors import StoreError
from app.ports.inbox import ControlOutcome, ControlRow, Inbox
from app.ports.runs import Journal, JournalRow

log = structlog.get_logger(__name__)

ORDER: Final = "control"
"""Where the id of a control stands in the data of its event."""
REMEMBERED: Final = 10_000
STOP_SECONDS: Final = 2.0
"""How long a stop waits for a store that may be stuck."""


class InboxFacts:
    """Of one process that executes. Owns its tasks."""

    def __init__(self, inbox: Inbox, journal: Journal) -> None:
        self._inbox = inbox
        self._journal = journal
        self._given: dict[str, None] = {}
        """Controls that a runner has or had; a look that began before one was settled must not find it."""
        self._settling: set[asyncio.Task[None]] = set()

    async def stop(self, *, seconds: float = STOP_SECONDS) -> None:
        """Settle what runners have answered, as far as the store takes it in that time.

        What is not settled by then is found by the next owner of the run.
        """
        if self._settling:
            _, late = await asyncio.wait(self._settling, timeout=seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def unsettled(self, run_id: str) -> Sequence[ControlRow]:
        """Controls of a run that did not take effect yet; those that did are settled. Raises `StoreError`."""
        waiting = await self._inbox.unsettled([run_id])
        if not waiting:
            return []
        stored = effects(await self._journal.read(run_id), waiting)
        for control_id in stored:
            await self._inbox.settle(control_id, "stored")
        return [control for control in waiting if control.id not in stored and control.id not in self._given]

    async def fact(self, control: ControlRow) -> Fact | None:
        """What a control asks for, once: to be handed to a runner, or cancelled.

        None for one that a runner has or had, and for one that this version cannot read, which is refused.
        """
        if control.id in self._given:
            return None
        row = JournalRow(
            run_id=control.run_id, seq=0, type=control.type, payload=control.payload, at=control.at
        )
        try:
            event, data = decode(row)
        except (ValueError, TypeError, KeyError):
            log.exception("control.unreadable", run_id=control.run_id)
            await self._inbox.settle(control.id, "refused")
            return None
        durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._given[control.id] = None
        while len(self._given) > REMEMBERED:
            del self._given[next(iter(self._given))]
        task = asyncio.create_task(self._settle(control, durable), name="settle-control")
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        return Fact(event=event, data=data, durable=durable)

    async def _settle(self, control: ControlRow, durable: asyncio.Future[bool]) -> None:
        try:
            outcome: ControlOutcome = "stored" if await durable else "refused"
            await patiently(lambda: self._inbox.settle(control.id, outcome), event="control.not_settled")
        except asyncio.CancelledError:
            # The runner let go of the run first: the next owner finds the control.
            self._given.pop(control.id, None)
            if not durable.cancelled():
                raise
        except StoreError:
            log.warning("control.not_settled", run_id=control.run_id, exc_info=True)


def effects(rows: Iterable[JournalRow], controls: Iterable[ControlRow]) -> frozenset[str]:
    """Ids of those controls that took effect, by the journal of their run."""
    known = b"\n".join(row.payload for row in rows)
    return frozenset(control.id for control in controls if control.id.encode() in known)
