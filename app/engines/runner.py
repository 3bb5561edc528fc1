"""Drives one run: folds facts, obeys the core's commands, appends to the journal.

The rhythm, and the reason for every guarantee:

    facts come in → fold them and every decision they lead to → append all of it in one write
    → only then start what was decided

So a dependent starts after its dependency's outcome is durable, an attempt starts after its own start is
durable, and nobody hears of what could still be lost. A writer that lost its run is refused by the
journal (`Fenced`) and stops. While the store takes no writes the batch is kept and offered again.

A run for which nothing can happen before a time that is far enough away, or before somebody acts, is
parked: `drive` returns, and its engine takes it up again.

The same code runs under every engine. What does not belong here: decisions (the core), execution of
steps (`attempts`), tasks and timers (`hands`), placement and admission (the engine).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import structlog

from app.core import commands as c
from app.core import events as e
from app.core.scheduler import decide, in_flight, next_due, quiescent
from app.core.state import RunPhase
from app.core.transitions import InvalidTransition, accepts
from app.dsl.compiled import CompiledWorkflow
from app.engines.account import CONCERNS, Account, Accounting, account_of
from app.engines.approvals import APPROVAL_EVENTS, ApprovalBook
from app.engines.attempts import Attempts, Try
from app.engines.calls import Calls
from app.engines.children import Children
from app.engines.codec import encode
from app.engines.decisions import Decisions, Question
from app.engines.facts import Batch, Fact
from app.engines.hands import Hands
from app.engines.history import BRINGS_OUTPUTS, History
from app.engines.identity import RunIdentity
from app.engines.observer import RunObserver
from app.engines.patience import patiently
from app.engines.reuse import EarlierRun, earlier_run
from app.engines.rundata import RunData
from app.engines.slots import Slots
from app.engines.timekeeping import BOOT, Timekeeper, brought_up
from app.ports.clock import Clock
from app.ports.runs import Journal, JournalRow, StatusChange

log = structlog.get_logger(__name__)

Held = c.StartAttempt | c.StartTimer | c.CancelAttempt | c.LaunchChild | c.CancelChild | Question
"""Commands that are obeyed once what led to them is durable."""

PARK_SECONDS = 1.0
"""A run whose next timer is due sooner stays in memory."""
MAX_DECIDED = 500
"""Events of one write from which on further decisions wait for the next: others get their turn meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerTools:
    """What the runners of a process share."""

    journal: Journal
    attempts: Attempts
    decisions: Decisions
    slots: Slots
    clock: Clock
    observer: RunObserver
    children: Children
    accounting: Accounting


class Runner:
    """One run in the hands of this process."""

    def __init__(
        self, run: RunIdentity, workflow: CompiledWorkflow, history: History, tools: RunnerTools
    ) -> None:
        self.loop = asyncio.get_running_loop()
        """Kept: up to Python 3.11, to ask which one it is takes a system call."""
        self.run = run
        self.history = history
        self._workflow = workflow
        self._tools = tools
        self._data = RunData(workflow, history)
        self._approvals = ApprovalBook(run, history)
        self._earlier: EarlierRun | None = None
        self._inbox: list[Fact] = []
        self._wake: asyncio.Future[None] | None = None
        self._rows: list[JournalRow] = []
        self._acknowledge: list[tuple[asyncio.Future[bool], bool]] = []
        """Who waits for what was folded to be durable, and whether their fact is part of it."""
        self._held: list[Held] = []
        self._released = False
        self.ended = False
        """The run's terminal event is in the journal."""
        self._time = Timekeeper(tools.clock, history.clock_noted)
        self._hands = Hands(
            tools.clock,
            self._time,
            self.loop,
            post=self.post,
            defective=self._defective,
            rested=self._wake_up,
        )
        self._calls = Calls(
            run,
            workflow,
            history,
            self._data,
            children=tools.children,
            clock=tools.clock,
            hands=self._hands,
            post=self.post,
        )
        self._defect: BaseException | None = None
        """What a task raised that may raise nothing."""
        self._account = self._open_account() if history.seq else None

    # --- facts in ------------------------------------------------------------------------------------

    def post(self, fact: Fact) -> None:
        """Hand in a fact; it is dropped if it cannot happen any more by the time it is folded."""
        if self._released:
            self._drop(fact)
            return
        self._inbox.append(fact)
        self._wake_up()

    def _defective(self, defect: BaseException) -> None:
        self._defect = defect
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def fold(self, facts: Sequence[Fact]) -> None:
        """Fold facts and what they decide, without starting or storing anything."""
        if by := self._heed_clock():
            now = self._tools.clock.now()
            facts = [fact.at(brought_up(fact.event.at, by, now)) for fact in facts]
        for position, fact in enumerate(facts):
            if self.history.state.finishing and isinstance(fact.event, e.RunTimeoutReached):
                self._drop(fact)  # the last step has ended in time
                continue
            try:
                self._append(fact)
            except InvalidTransition:  # it came too late
                self._drop(fact)
            except Exception:
                # A defect: whoever waits for this fact or one behind it hears that the run was let go.
                if fact.durable is not None:
                    self._acknowledge.append((fact.durable, False))
                self._inbox[:0] = facts[position + 1 :]
                raise
        self._decide()

    def _heed_clock(self) -> float:
        """By how much somebody set the clock: this run's times are moved before anything else is."""
        by = self._time.moved()
        if not by:
            return 0.0
        event = e.ClockMoved(by=by, at=self._tools.clock.now())
        if not accepts(self.history.state, event):
            return 0.0
        self._append(Fact(event=event, data={BOOT: self._time.note()}))
        return by

    def take_batch(self) -> Batch:
        """What was folded and is not stored yet: for the creator of a run, who stores its first events."""
        rows, self._rows = self._rows, []
        return Batch(rows=rows, change=self._status_change(rows))

    def first_facts(self) -> Sequence[Fact]:
        """What taking a stored run up begins with: it is awake, and what was in flight is lost."""
        now = self._tools.clock.now()
        woken = [Fact(event=e.RunWoken(at=now))] if self.history.state.parked else []
        return woken + [
            Fact(event=e.AttemptLost(path=path, attempt=attempt, at=now))
            for path, attempt in in_flight(self.history.state)
        ]

    def begin(self) -> None:
        """Start what only reads, while the run is being stored: nobody is told of it before it is.

        If the run cannot be stored, nothing was changed by it; `discard` it then.
        """
        held, self._held = self._held, []
        for command in held:
            if isinstance(command, c.StartAttempt) and self._may_be_forgotten(command.path):
                self._start(command)
            else:
                self._held.append(command)

    def _may_be_forgotten(self, path: str) -> bool:
        """Whether an attempt does no harm if nobody ever hears that it was made."""
        kind = self._data.step(path).kind
        return self.history.state.steps[path].node.repeatable and getattr(kind, "only_reads", False)

    async def drive(self) -> None:
        """Go on until the run has ended or is parked. Raises `Fenced` if another writer owns it now.

        Cancelling this coroutine aborts what is in flight and appends nothing: whoever folds the journal
        next goes on from there.
        """
        try:
            self._decide()
            while True:
                await self._commit()
                self._obey()
                self.ended = self.history.state.terminal
                if self.ended or self._park():
                    break
                if not self._rows:
                    await self._news()
                facts, self._inbox = self._inbox, []
                if facts and self.history.state.parked:
                    facts.insert(0, Fact(event=e.RunWoken(at=self._tools.clock.now())))
                self.fold(facts)
        finally:
            await self.discard()

    async def discard(self) -> None:
        """Abort what is in flight and let go of the run."""
        await self._hands.abort()
        self.release()

    async def _news(self) -> None:
        if not self._inbox and self._defect is None and not self.history.state.agenda:
            self._wake = self.loop.create_future()
            await self._wake
            self._wake = None
        if self._defect is not None:
            raise self._defect

    def _park(self) -> bool:
        """Whether the run may leave memory now. What leads there is folded, and stored before it does."""
        state = self.history.state
        if state.phase is RunPhase.SUBMITTED:
            return not self._inbox  # it waits for its turn in the queue, not here
        if state.parked:
            if not self._inbox:
                return not self._calls.looks_at_rest() and self._hands.idle
            self._append(Fact(event=e.RunWoken(at=self._tools.clock.now())))
        elif not self._inbox and self._hands.idle and not self._held and quiescent(state):
            if self._heed_clock():
                return False
            now, due_at = self._tools.clock.now(), next_due(state)
            rests = due_at is None or due_at - now >= PARK_SECONDS
            if rests and not self._calls.keeps_awake():
                parked = e.RunParked(wake_at=due_at, at=now)
                self._append(Fact(event=parked, data={BOOT: self._time.note()}))
        return False

    def release(self) -> None:
        """Let go of the run: timers, slots and whoever waits for an answer."""
        self._hands.release()
        self._calls.release()
        self._account = None
        self._released = True
        inbox, self._inbox = self._inbox, []
        for fact in inbox:
            self._drop(fact)
        for command in self._held:
            if isinstance(command, c.StartAttempt):
                self._tools.slots.give_back()
        self._held.clear()
        for waiter, _ in self._acknowledge:
            if not waiter.done():
                waiter.cancel()

    # --- folding --------------------------------------------------------------------------------------

    def _drop(self, fact: Fact) -> None:
        if isinstance(fact.event, e.AttemptStarted):
            self._tools.slots.give_back()
        if fact.durable is not None and not fact.durable.done():
            self._refuse(fact.durable)

    def _refuse(self, durable: asyncio.Future[bool]) -> None:
        """False: the run has moved on, durably. Cancelled: this process has let go of it."""
        if not self._released:
            self._acknowledge.append((durable, False))
        elif self.ended:
            durable.set_result(False)
        else:
            durable.cancel()

    def _decide(self) -> None:
        """Fold every decision that follows at once, a write's worth; hold the rest until it is durable."""
        while len(self._rows) < MAX_DECIDED and (due := decide(self.history.state)):
            for fact in [self._answer(command) for command in due]:
                if fact is not None:
                    self._append(fact)

    def _answer(self, command: c.Command) -> Fact | None:
        """The fact that answers a command here and now, or None if it has to wait."""
        match command:
            case c.Record():
                return Fact(event=command.event)
            case c.StartAttempt():
                return self._start_or_wait(command)
            case c.StartTimer() | c.CancelAttempt() | c.LaunchChild() | c.CancelChild():
                self._held.append(command)
                return None
            case _:
                fact = self._tools.decisions.now(self.run, self._data, command)
                if fact is None:
                    self._held.append(command)
                return fact

    def _start_or_wait(self, command: c.StartAttempt) -> Fact | None:
        if self._tools.slots.take():
            return self._started(command)
        self._tools.slots.request(lambda: self._slot_granted(command))
        return None

    def _slot_granted(self, command: c.StartAttempt) -> bool:
        fact = self._started(command)
        wanted = not self._released and accepts(self.history.state, fact.event)
        if wanted:
            self.post(fact)
        return wanted

    def _started(self, command: c.StartAttempt) -> Fact:
        now = self._tools.clock.now()
        return Fact(event=e.AttemptStarted(path=command.path, attempt=command.attempt, at=now))

    def _append(self, fact: Fact) -> None:
        event, data = fact.event, fact.data
        kind = type(event)
        self.history.apply(event, data)
        self._rows.append(encode(self.run.run_id, self.history.seq, event, data, fact.encoded))
        if fact.durable is not None:
            self._acknowledge.append((fact.durable, True))
        path = getattr(event, "path", None)
        if isinstance(event, e.AttemptStarted):
            self._held.append(c.StartAttempt(path=event.path, attempt=event.attempt))
        elif path is not None and kind in _ENDS_STEP:
            self._data.ended(path)
        elif isinstance(event, e.RunSubmitted):
            self._data.submitted(self.history.inputs)
            self._account = self._open_account()
        elif isinstance(event, e.RunResumed) and self._account is None:
            self._account = self._open_account()
        elif isinstance(event, e.ClockMoved):
            self._approvals.observe(event, data, self.history.state)
        if path is not None:
            if self._calls.has_items:
                self._calls.observe(event)
            if kind in _VOIDS_TIMER:
                self._hands.stop_timer(path)
            if kind in APPROVAL_EVENTS:
                self._approvals.observe(event, data, self.history.state)
        if self._account is not None and kind in CONCERNS:
            self._account.observe(event, data)
        self._tools.observer.observed(self.run, self._workflow, self.history, event)

    def _open_account(self) -> Account | None:
        tools = self._tools
        return account_of(self._workflow, self.history, tools.accounting, self._record, tools.clock.now)

    async def _record(self, event: e.Event, data: Mapping[str, Any]) -> bool:
        """Make an event durable that nobody waits for but the asker; False if it cannot happen any more."""
        durable: asyncio.Future[bool] = self.loop.create_future()
        self.post(Fact(event=event, data=data, durable=durable))
        return await durable

    # --- durability -----------------------------------------------------------------------------------

    async def _commit(self) -> None:
        if self._rows:
            batch = self.take_batch()
            # What was done outside must not be forgotten.
            append = self._tools.journal.append
            await patiently(lambda: append(batch.rows, batch.change), event="journal.unavailable")
        for waiter, stored in self._acknowledge:
            if not waiter.done():
                waiter.set_result(stored)
        self._acknowledge.clear()
        self._tools.observer.durable(self.run, self.history)

    def _status_change(self, rows: Sequence[JournalRow]) -> StatusChange | None:
        """How the `runs` row and the approvals change with these events, if they do."""
        history = self.history
        approvals = self._approvals.changes(history.state)
        types = {row.type for row in rows} & _CHANGES_STATUS
        if not types and not approvals:
            return None
        return StatusChange(
            status=history.status,
            started_at=history.started_at if e.RunStarted.__name__ in types else None,
            finished_at=history.ended_at,
            wake_at=_wake_at(history),
            wakes=self.run.caller if history.state.terminal else None,
            approvals=approvals,
        )

    # --- obeying --------------------------------------------------------------------------------------

    def _obey(self) -> None:
        held, self._held = self._held, []
        for command in held:
            match command:
                case c.StartAttempt():
                    self._start(command)
                case c.StartTimer():
                    self._hands.start_timer(command)
                case c.CancelAttempt():
                    self._hands.cancel(command)
                case c.LaunchChild():
                    launching = self._calls.launch(
                        command, earlier=self._earlier_run(), account=self._account
                    )
                    self._hands.launch(command.path, launching)
                case c.CancelChild():
                    self._hands.spawn(self._calls.cancel(command, account=self._account))
                case (
                    c.EvaluateCondition()
                    | c.EnterStep()
                    | c.CheckLoop()
                    | c.CollectBlock()
                    | c.RecoverStep()
                    | c.FinishRun()
                ):
                    self._hands.spawn(self._decide_later(command))
                case _:
                    assert_never(command)
        self._calls.pass_pause_on()

    def _start(self, command: c.StartAttempt) -> None:
        if self.history.state.running.get(command.path) == command.attempt:
            self._hands.attempt(command, self._attempt(command), self._tools.slots.give_back)
        else:
            self._tools.slots.give_back()

    async def _attempt(self, command: c.StartAttempt) -> None:
        path = command.path
        this = Try(
            step=self._data.step(path),
            path=path,
            attempt=command.attempt,
            earlier=self._earlier_run(),
            account=self._account,
        )
        with self._tools.observer.attempt(self.run, this, self.history) as emit:
            facts = await self._tools.attempts.execute(self.run, this, self._data.names_of(path), emit)
        for fact in facts:
            self.post(fact)

    def _earlier_run(self) -> EarlierRun | None:
        if self._earlier is None:
            self._earlier = earlier_run(self.history.submitted, self._tools.journal)
        return self._earlier

    async def _decide_later(self, question: Question) -> None:
        self.post(await self._tools.decisions.later(self.run, self._data, question))


_ENDS_STEP = BRINGS_OUTPUTS | {e.StepFailed, e.StepSkipped, e.AttemptCancelled}
_VOIDS_TIMER = BRINGS_OUTPUTS | {
    e.AttemptFailed,
    e.AttemptTimedOut,
    e.AttemptLost,
    e.AttemptCancelled,
    e.AttemptDeferred,
}
_CHANGES_STATUS = frozenset(
    kind.__name__
    for kind in (
        e.RunStarted,
        e.RunPaused,
        e.RunResumed,
        e.RunParked,
        e.RunWoken,
        e.CancelRequested,
        e.RunTimeoutReached,
        *e.TERMINAL,
    )
)


def _wake_at(history: History) -> float | None:
    """When a parked run is due; infinity for one that only waits for somebody to act."""
    if not history.state.parked:
        return None
    return math.inf if history.wake_at is None else history.wake_at
