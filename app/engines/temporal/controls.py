"""The worker's side of the inbox: controls of the runs it has in hand become facts for their runners."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from app.engines.facts import Fact
from app.engines.inbox_facts import InboxFacts
from app.engines.runner import Runner
from app.ports.errors import StoreError
from app.ports.inbox import Inbox
from app.ports.runs import Journal

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 0.1
"""Between two looks into the inbox: a cancellation is to close a socket within half a second."""
RETRY_SECONDS: Final = 1.0


class Controls:
    """Of one worker. Owns its tasks."""

    def __init__(self, inbox: Inbox, journal: Journal) -> None:
        self._inbox = inbox
        self._facts = InboxFacts(inbox, journal)
        self._runners: dict[str, Runner] = {}
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
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._facts.stop()

    def look(self) -> None:
        """Look now: something may be there."""
        self._news.set()

    # --- a run comes and goes -------------------------------------------------------------------------

    async def facts(self, run_id: str) -> list[Fact]:
        """What was asked of a run before it was taken up; to be folded before anything else is decided."""
        facts = [await self._facts.fact(control) for control in await self._facts.unsettled(run_id)]
        return [fact for fact in facts if fact is not None]

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
            if (fact := await self._facts.fact(control)) is None:
                continue
            if (runner := self._runners.get(control.run_id)) is not None:
                runner.post(fact)
            elif fact.durable is not None:
                fact.durable.cancel()  # it was let go of in this moment
