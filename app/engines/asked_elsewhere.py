"""What processes that stand by were asked of runs: found in the inbox by the one that executes.

A run is brought into memory for it if need be, just as if this process had been asked.
"""

from __future__ import annotations

import math
from typing import Final

import structlog

from app.engines.engine import Draining
from app.engines.inbox_facts import InboxFacts
from app.engines.recovery import UnreadableRun
from app.engines.uptake import Uptake
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.inbox import ControlRow, Inbox
from app.ports.runs import Journal

log = structlog.get_logger(__name__)

PAGE: Final = 1000
"""Controls that are looked at together."""
KEPT_SECONDS: Final = 86_400.0
"""How long a control is kept for whoever asks what became of it."""
PRUNE_SECONDS: Final = 3600.0
LEFT_SECONDS: Final = 10.0
"""How long a run is left alone that could not be asked."""


class AskedElsewhere:
    """Of the process that executes; its owner calls, one call at a time."""

    def __init__(self, inbox: Inbox, journal: Journal, uptake: Uptake, clock: Clock) -> None:
        self._inbox = inbox
        self._facts = InboxFacts(inbox, journal)
        self._uptake = uptake
        self._clock = clock
        self._prune_at = -math.inf
        """By the machine's uptime."""
        self._left: dict[str, float] = {}
        """Runs that could not be asked, and when to try again, by the machine's uptime."""

    async def stop(self) -> None:
        """Settle what runners have answered."""
        await self._facts.stop()

    async def pass_over(self) -> None:
        """Hand in what was asked since the last time. Raises `StoreError`."""
        asked_of = await self._inbox.neglected(math.inf, limit=PAGE)
        now = self._clock.uptime()
        self._left = {run_id: again for run_id, again in self._left.items() if again > now}
        for run_id in asked_of:
            if run_id not in self._left:
                await self._hand_in_all(run_id)
        if not asked_of and now >= self._prune_at:
            await self._inbox.prune(self._clock.now() - KEPT_SECONDS)
            self._prune_at = now + PRUNE_SECONDS

    async def _hand_in_all(self, run_id: str) -> None:
        try:
            for control in await self._facts.unsettled(run_id):
                await self._hand_in(control)
        except StoreUnavailable:
            raise
        except Exception:
            # What one run cannot be asked must not keep others from what they are.
            log.exception("control.not_handed_in", run_id=run_id)
            self._left[run_id] = self._clock.uptime() + LEFT_SECONDS

    async def _hand_in(self, control: ControlRow) -> None:
        fact = await self._facts.fact(control)
        if fact is None or fact.durable is None:
            return
        try:
            # It happens now: clocks of other machines may say something else.
            runner = await self._uptake.take_with(control.run_id, [fact.at(self._clock.now())])
        except UnreadableRun:
            log.exception("control.of_unreadable_run", run_id=control.run_id)
            fact.durable.set_result(False)
        except Draining:
            fact.durable.cancel()  # the process that goes on with the run finds it
        except BaseException:
            fact.durable.cancel()
            raise
        else:
            if runner is None and not fact.durable.done():
                fact.durable.set_result(False)  # the run has ended
