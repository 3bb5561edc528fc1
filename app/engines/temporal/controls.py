"""The worker's side of the inbox: controls of the runs it has in hand become facts for their runners.

A control is settled once the journal says what became of it. If the worker dies in between, the next owner
finds the control again, and the journal tells whether it took effect: its id stands beside the event.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from app.engines.codec import decode
from app.engines.facts import Fact
from app.engines.patience import patiently
from app.engines.runner import Runner
from app.ports.errors import StoreError
from app.ports.inbox import ControlOutcome, ControlRow, Inbox
from app.ports.runs import Journal, JournalRow

log = structlog.get_logger(__name__)

ORDER: Final = "control"
"""Where the id of a control stands in the data of its event."""
LOOK_SECONDS: Final = 0.1
"""Between two looks into the inbox: a cancellation is to close a socket within half a second."""
REMEMBERED: Final = 10_000
RETRY_SECONDS: Final = 1.0


class Controls:
    """Of one worker. Owns its tasks."""

    def __init__(self, inbox: Inbox, journal: Journal) -> None:
        self._inbox = inbox
        self._journal = journal
        self._runners: dict[str, Runner] = {}
        self._delivered: dict[str, None] = {}
        """Controls that a runner has or had; a look that began before one was settled must not find it."""
        self._settling: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def run_ids(self) -> frozenset[str]:
        """Runs in hand."""
        return frozenset(self._runners)

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look(), name="controls")

    async def stop(self) -> None:
        """Settle what runners have answered, and look no more."""
        tasks = {*self._settling} if self._task is None else {*self._settling, self._task}
        if self._task is not None:
            self._task.cancel()
            self._task = None
        await asyncio.gather(*tasks, return_exceptions=True)

    def look(self) -> None:
        """Look now: something may be there."""
        self._news.set()

    # --- a run comes and goes -------------------------------------------------------------------------

    async def facts(self, run_id: str) -> list[Fact]:
        """What was asked of a run before it was taken up; to be folded before anything else is decided."""
        waiting = await self._inbox.unsettled([run_id])
        if not waiting:
            return []
        known = b"\n".join(row.payload for row in await self._journal.read(run_id))
        facts = []
        for control in waiting:
            if control.id.encode() in known:
                await self._inbox.settle(control.id, "stored")
            elif control.id not in self._delivered and (fact := await self._fact(control)):
                facts.append(fact)
        return facts

    def took(self, runner: Runner) -> None:
        """Deliver to this runner from here on."""
        self._runners[runner.run.run_id] = runner

    def let_go(self, runner: Runner) -> None:
        """It drives no more."""
        if self._runners.get(runner.run.run_id) is runner:
            del self._runners[runner.run.run_id]

    # --- while it is in hand --------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            self._news.clear()
            if not self._runners:
                continue
            try:
                await self._deliver()
            except StoreError:
                log.warning("inbox.not_read", exc_info=True)
                await asyncio.sleep(RETRY_SECONDS)

    async def _deliver(self) -> None:
        for control in await self._inbox.unsettled(self.run_ids):
            if control.id in self._delivered or (fact := await self._fact(control)) is None:
                continue
            if (runner := self._runners.get(control.run_id)) is not None:
                runner.post(fact)
            elif fact.durable is not None:
                fact.durable.cancel()  # it was let go of in this moment

    async def _fact(self, control: ControlRow) -> Fact | None:
        """What a control asks for; None for one that this version cannot read, which is refused."""
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
        self._delivered[control.id] = None
        while len(self._delivered) > REMEMBERED:
            del self._delivered[next(iter(self._delivered))]
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
            self._delivered.pop(control.id, None)
            if not durable.cancelled():
                raise
        except StoreError:
            log.warning("control.not_settled", run_id=control.run_id, exc_info=True)
