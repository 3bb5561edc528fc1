"""What people ask of a run that another process owns: written into the inbox, answered by what became of it.

Whoever has the run in hand looks into the inbox; a run that nobody has in hand is woken, or taken up. The
asker learns the outcome from the inbox, so it does not matter which process settled it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import uuid_utils

from app.core import events as e
from app.core.state import StepStatus
from app.engines.asked_before import named
from app.engines.codec import encode
from app.engines.engine import CancelPending, CancelReceipt, NotPossible, RunEnded, receipt_of
from app.engines.inbox_facts import ORDER, effects
from app.engines.recovery import RunLoader, StoredRun
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.inbox import ControlRow
from app.ports.runs import TERMINAL_STATUSES, Store

LOOK_SECONDS: Final = 0.02
"""First pause between two looks for the outcome; it doubles."""
LONGEST_LOOK: Final = 0.2

Wake = Callable[[StoredRun], None]
"""Have whoever may own a run look into the inbox."""


class Asking:
    """For all runs of a process that executes none itself."""

    def __init__(
        self,
        *,
        store: Store,
        loader: RunLoader,
        clock: Clock,
        wake: Wake,
        patience: float,
    ) -> None:
        self._inbox = store.inbox
        self._runs = store.runs
        self._journal = store.journal
        self._loader = loader
        self._clock = clock
        self._wake = wake
        self._patience = patience

    async def cancel(self, run_id: str, *, reason: str | None, request: str | None = None) -> CancelReceipt:
        """End a run early."""
        stored = await self._under_way(run_id)
        event = e.CancelRequested(reason=reason, at=self._clock.now())
        if not await self._asked(stored, event, named({}, request)):
            raise _ended(run_id)
        return receipt_of(stored.history)

    async def pause(self, run_id: str, *, reason: str | None, request: str | None = None) -> None:
        """Start nothing further of it."""
        stored = await self._under_way(run_id)
        event = e.RunPaused(reason=reason, at=self._clock.now())
        if not await self._asked(stored, event, named({}, request)):
            raise await self._refusal(run_id, lambda _: "is paused already")

    async def resume(
        self, run_id: str, *, budget: Mapping[str, Any] | None = None, request: str | None = None
    ) -> None:
        """Go on with it."""
        stored = await self._under_way(run_id)
        data = {"budget": dict(budget)} if budget else {}
        if not await self._asked(stored, e.RunResumed(at=self._clock.now()), named(data, request)):
            raise await self._refusal(run_id, lambda _: "is not paused")

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
        stored = await self._under_way(run_id)
        event = e.ApprovalAnswered(path=path, action=action, by=by, at=self._clock.now())
        outputs = {"outputs": {"action": action, "data": data, "by": by}}
        if await self._asked(stored, event, named(outputs, request)):
            return

        def because(found: StoredRun) -> str:
            step = found.history.state.steps.get(path)
            waits = step is not None and step.status is StepStatus.WAITING
            return "waits for something else" if waits else "no longer waits for this answer"

        raise await self._refusal(run_id, because)

    async def _under_way(self, run_id: str) -> StoredRun:
        stored = await self._loader.load(run_id)
        if stored is None or stored.history.state.terminal:
            raise _ended(run_id)
        return stored

    async def _asked(self, stored: StoredRun, event: e.Event, data: Mapping[str, Any]) -> bool:
        """Whether the event is in the journal; False if it could not happen any more."""
        control = await self._waiting(stored, event, data)
        if control is None:
            control = _control(stored.identity.run_id, event, data)
            await self._inbox.put(control)
        self._wake(stored)
        try:
            async with asyncio.timeout(self._patience):
                return await self._outcome(control)
        except TimeoutError:
            raise CancelPending(
                f"the request about run {control.run_id!r} is kept, and no process has taken it up yet; "
                "it takes effect when one does, look at the run then"
            ) from None

    async def _waiting(self, stored: StoredRun, event: e.Event, data: Mapping[str, Any]) -> ControlRow | None:
        """The same that nobody took up yet: whoever repeats a request does not ask for it twice.

        A second cancel would end what the first one leaves to be done. Anything else is the same only if it
        is the last that was asked: between two pauses there may be a resume.
        """
        waiting = await self._inbox.unsettled([stored.identity.run_id])
        candidates = waiting if isinstance(event, e.CancelRequested) else waiting[-1:]
        same = (it for it in candidates if it.type == type(event).__name__ and _is_same(it, event, data))
        return next(same, None)

    async def _outcome(self, control: ControlRow) -> bool:
        pause = LOOK_SECONDS
        while True:
            try:
                known = await self._known_outcome(control, ended=pause >= LONGEST_LOOK)
            except StoreUnavailable:
                known = None  # it is stored, whatever cannot be read now
            if known is not None:
                return known
            await asyncio.sleep(pause)
            pause = min(LONGEST_LOOK, pause * 2)

    async def _known_outcome(self, control: ControlRow, *, ended: bool) -> bool | None:
        """`ended`: look at whether the run has ended, too, for nobody settles what comes after that."""
        known = await self._inbox.get(control.id)
        if known is not None and known.outcome is not None:
            return known.outcome == "stored"
        if not ended:
            return None
        status = (await self._runs.statuses([control.run_id])).get(control.run_id)
        if status is not None and status not in TERMINAL_STATUSES:
            return None
        # It may have been what ended the run, and not be settled yet.
        return control.id in effects(await self._journal.read(control.run_id), [control])

    async def _refusal(self, run_id: str, because: Callable[[StoredRun], str]) -> Exception:
        stored = await self._loader.load(run_id)
        if stored is None or stored.history.state.terminal:
            return _ended(run_id)
        return NotPossible(f"run {run_id!r} {because(stored)}")


def _control(run_id: str, event: e.Event, data: Mapping[str, Any]) -> ControlRow:
    control_id = str(uuid_utils.uuid7())
    row = encode(run_id, 0, event, {**data, ORDER: control_id})
    return ControlRow(id=control_id, run_id=run_id, type=row.type, payload=row.payload, at=row.at)


def _is_same(control: ControlRow, event: e.Event, data: Mapping[str, Any]) -> bool:
    """Whether a control asks for this; of a cancel the reason is no matter."""
    if isinstance(event, e.CancelRequested):
        return True
    wanted = encode(control.run_id, 0, replace(event, at=control.at), {**data, ORDER: control.id})
    return wanted.payload == control.payload


def _ended(run_id: str) -> RunEnded:
    return RunEnded(f"run {run_id!r} has ended or is ending; there is nothing to control")
