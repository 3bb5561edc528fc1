"""What people and other runs ask of a run that is under way: cancel, pause, resume, answer, go on.

Each is a fact for the run's own runner, which is brought into memory if need be; the asker hears once it
is durable. Only the process that executes can do it; others ask it to (`app.engines.asking`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from app.core import events as e
from app.core.state import StepStatus
from app.engines.asked_before import named
from app.engines.engine import (
    CancelPending,
    CancelReceipt,
    Draining,
    HandedOver,
    NotPossible,
    RunEnded,
    StandingBy,
    receipt_of,
)
from app.engines.facts import Fact
from app.engines.fleet import Fleet
from app.engines.runner import Runner
from app.engines.uptake import Uptake
from app.ports.clock import Clock
from app.ports.errors import StoreError
from app.ports.lock import ExecutorLock

log = structlog.get_logger(__name__)


class RunControl:
    """For all runs of an engine."""

    def __init__(
        self, *, fleet: Fleet, uptake: Uptake, lock: ExecutorLock, clock: Clock, patience: float
    ) -> None:
        self._fleet = fleet
        self._uptake = uptake
        self._lock = lock
        self._clock = clock
        self._patience = patience

    @property
    def serves(self) -> bool:
        """Whether this process executes, and knows what the last executor left."""
        return self._lock.held and self._uptake.concurrency.kept

    async def cancel(self, run_id: str, *, reason: str | None, request: str | None = None) -> CancelReceipt:
        """End a run early, wherever it is in its life."""
        self._check_role()
        runner = self._fleet.get(run_id)
        receipt = receipt_of(runner.history) if runner else None
        event = e.CancelRequested(reason=reason, at=self._clock.now())
        runner, durable = await self._hand_in(run_id, event, named({}, request))
        if not await self._stored(run_id, durable):
            raise _ended(run_id)
        return receipt or receipt_of(runner.history)

    async def pause(self, run_id: str, *, reason: str | None, request: str | None = None) -> None:
        """Start nothing further of it."""
        self._check_role()
        event = e.RunPaused(reason=reason, at=self._clock.now())
        runner, durable = await self._hand_in(run_id, event, named({}, request))
        if not await self._stored(run_id, durable):
            raise self._refusal(runner, "is paused already")

    async def resume(
        self, run_id: str, *, budget: Mapping[str, Any] | None = None, request: str | None = None
    ) -> None:
        """Go on with it, within these bounds of its budget where they are given."""
        self._check_role()
        data = {"budget": dict(budget)} if budget else {}
        event = e.RunResumed(at=self._clock.now())
        runner, durable = await self._hand_in(run_id, event, named(data, request))
        if not await self._stored(run_id, durable):
            raise self._refusal(runner, "is not paused")

    async def answer(
        self,
        run_id: str,
        path: str,
        *,
        action: str,
        data: Any,
        by: str | None,
        request: str | None = None,
    ) -> None:
        """Answer an approval."""
        self._check_role()
        event = e.ApprovalAnswered(path=path, action=action, by=by, at=self._clock.now())
        outputs = {"outputs": {"action": action, "data": data, "by": by}}
        runner, durable = await self._hand_in(run_id, event, named(outputs, request))
        if await self._stored(run_id, durable):
            return
        step = runner.history.state.steps.get(path)
        waits = step is not None and step.status is StepStatus.WAITING
        raise self._refusal(
            runner, "waits for something else" if waits else "no longer waits for this answer"
        )

    async def tell(self, run_id: str, fact: Fact) -> None:
        """Hand a fact to a run, which may have ended; nobody waits for it to be durable."""
        try:
            await self._uptake.take_with(run_id, [fact])
        except StoreError:
            # The next pass that can write has it look for itself.
            self._uptake.untold = True
            log.warning("run.not_told", run_id=run_id, exc_info=True)
        except Draining:
            pass  # as does the first pass of the process that goes on

    async def _hand_in(
        self, run_id: str, event: e.Event, data: Mapping[str, Any]
    ) -> tuple[Runner, asyncio.Future[bool]]:
        durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        fact = Fact(event=event, data=data or None, durable=durable)
        runner = await self._uptake.take_with(run_id, [fact])
        if runner is None:
            raise _ended(run_id)
        return runner, durable

    async def _stored(self, run_id: str, durable: asyncio.Future[bool]) -> bool:
        """Whether the fact is in the journal; False if it could not happen any more."""
        await asyncio.wait({durable}, timeout=self._patience)
        if not durable.done():
            raise CancelPending(
                f"the request about run {run_id!r} is not stored yet, for the store takes no writes; "
                "it takes effect when the store does, look at the run then"
            )
        if durable.cancelled():
            raise HandedOver(
                f"the process let go of run {run_id!r} before the request was stored; "
                "ask again, the process that goes on with the run will answer"
            )
        return durable.result()

    def _check_role(self) -> None:
        if not self.serves:
            raise StandingBy("this process stands by; ask the one that executes, or try again later")

    def _refusal(self, runner: Runner, because: str) -> Exception:
        if runner.history.state.terminal:
            return _ended(runner.run.run_id)
        return NotPossible(f"run {runner.run.run_id!r} {because}")


def _ended(run_id: str) -> RunEnded:
    return RunEnded(f"run {run_id!r} has ended or is ending; there is nothing to control")
