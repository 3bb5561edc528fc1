"""Drives one run: folds facts, obeys the core's commands, appends to the journal.

The rhythm, and the reason for every guarantee:

    facts come in → fold them and every decision they lead to → append all of it in one write
    → only then start what was decided

So a dependent starts after its dependency's outcome is durable, an attempt starts after its own start is
durable, and nobody hears of what could still be lost. A writer that lost its run is refused by the
journal (`Fenced`) and stops. While the store takes no writes the batch is kept and offered again.

The same code runs under every engine. What does not belong here: decisions (the core), execution of
steps (`attempts`), placement and admission (the engine).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from app.core import commands as c
from app.core import events as e
from app.core.scheduler import decide, in_flight
from app.core.transitions import accepts
from app.dsl.compiled import CompiledWorkflow
from app.engines.attempts import Attempts, RunIdentity
from app.engines.codec import encode
from app.engines.decisions import Decisions
from app.engines.facts import Fact
from app.engines.history import History
from app.engines.observer import RunObserver
from app.engines.rundata import RunData
from app.engines.slots import Slots
from app.ports.clock import Clock
from app.ports.errors import StoreUnavailable
from app.ports.runs import Journal, JournalRow, StatusChange

log = structlog.get_logger(__name__)

Held = c.StartAttempt | c.StartTimer | c.CancelAttempt | c.EvaluateCondition | c.RecoverStep | c.FinishRun
"""Commands that are obeyed once what led to them is durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerTools:
    """What the runners of a process share."""

    journal: Journal
    attempts: Attempts
    decisions: Decisions
    slots: Slots
    clock: Clock
    observer: RunObserver


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events to append together, and the change of the `runs` row that goes with them."""

    rows: Sequence[JournalRow]
    change: StatusChange | None


class Runner:
    """One run in the hands of this process."""

    def __init__(
        self, run: RunIdentity, workflow: CompiledWorkflow, history: History, tools: RunnerTools
    ) -> None:
        self.run = run
        self.history = history
        self._workflow = workflow
        self._tools = tools
        self._data = RunData(workflow, history)
        self._inbox: deque[Fact] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._rows: list[JournalRow] = []
        self._acknowledge: list[asyncio.Future[bool]] = []
        self._held: list[Held] = []
        self._released = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._defect: BaseException | None = None
        """What a task raised that may raise nothing."""
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # --- facts in ------------------------------------------------------------------------------------

    def post(self, fact: Fact) -> None:
        """Hand in a fact; it is dropped if it cannot happen any more by the time it is folded."""
        if self._released:
            self._drop(fact)
            return
        self._inbox.append(fact)
        self._wake_up()

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def fold(self, facts: Sequence[Fact]) -> None:
        """Fold facts and what they decide, without starting or storing anything."""
        for fact in facts:
            if accepts(self.history.state, fact.event):
                self._append(fact)
            else:
                self._drop(fact)
        self._decide()

    def take_batch(self) -> Batch:
        """What was folded and is not stored yet: for the creator of a run, who stores its first events."""
        rows, self._rows = self._rows, []
        return Batch(rows=rows, change=_status_change(rows, self.history))

    def lost_attempts(self) -> Sequence[Fact]:
        """The facts that a recovery begins with: what was in flight is lost."""
        now = self._tools.clock.now()
        return [
            Fact(event=e.AttemptLost(path=path, attempt=attempt, at=now))
            for path, attempt in in_flight(self.history.state)
        ]

    async def drive(self) -> None:
        """Go on until the run has ended. Raises `Fenced` if another writer owns it now.

        Cancelling this coroutine aborts what is in flight and appends nothing: whoever folds the journal
        next goes on from there.
        """
        try:
            self._decide()
            while True:
                await self._commit()
                self._obey()
                if self.history.state.terminal:
                    break
                await self._news()
                facts = list(self._inbox)
                self._inbox.clear()
                self.fold(facts)
        finally:
            await self._abort()
            self.release()

    async def _abort(self) -> None:
        """Nothing of a run outlives its runner."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    async def _news(self) -> None:
        if not self._inbox and self._defect is None:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
            self._wake = None
        if self._defect is not None:
            raise self._defect

    def release(self) -> None:
        """Let go of the run: timers, slots and whoever waits for an answer."""
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        self._released = True
        while self._inbox:
            self._drop(self._inbox.popleft())
        for command in self._held:
            if isinstance(command, c.StartAttempt):
                self._tools.slots.give_back()
        self._held.clear()
        for waiter in self._acknowledge:
            if not waiter.done():
                waiter.cancel()

    # --- folding --------------------------------------------------------------------------------------

    def _drop(self, fact: Fact) -> None:
        if isinstance(fact.event, e.AttemptStarted):
            self._tools.slots.give_back()
        if fact.durable is not None and not fact.durable.done():
            self._refuse(fact.durable)

    def _refuse(self, durable: asyncio.Future[bool]) -> None:
        """False: the run has moved on. Cancelled: this process has let go of it."""
        if self._released and not self.history.state.terminal:
            durable.cancel()
        else:
            durable.set_result(False)

    def _decide(self) -> None:
        """Fold every decision that follows at once; hold the rest until all of it is durable."""
        while due := decide(self.history.state):
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
            case c.EvaluateCondition() | c.RecoverStep() | c.FinishRun():
                fact = self._tools.decisions.now(self._workflow, command, self._data.names)
                if fact is None:
                    self._held.append(command)
                return fact
            case c.StartTimer() | c.CancelAttempt():
                self._held.append(command)
                return None
            case _:
                assert_never(command)

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
        self.history.apply(event, data)
        self._rows.append(encode(self.run.run_id, self.history.seq, event, data, fact.encoded))
        if fact.durable is not None:
            self._acknowledge.append(fact.durable)
        path = getattr(event, "path", None)
        if isinstance(event, e.AttemptStarted):
            self._held.append(c.StartAttempt(path=event.path, attempt=event.attempt))
        elif isinstance(event, _BRINGS_OUTPUTS) and data is not None:
            self._data.succeeded(event.path, data["outputs"])
        elif isinstance(event, e.RunSubmitted):
            self._data.submitted(self.history.inputs)
        elif isinstance(event, e.StepFailed):
            self._data.failed(event.path, event.failure)
        if path is not None and isinstance(event, _ENDS_ATTEMPT) and (timer := self._timers.pop(path, None)):
            timer.cancel()
        self._tools.observer.observed(self.run, self._workflow, self.history, event)

    # --- durability -----------------------------------------------------------------------------------

    async def _commit(self) -> None:
        if self._rows:
            batch = self.take_batch()
            await _persist(lambda: self._tools.journal.append(batch.rows, batch.change))
        for waiter in self._acknowledge:
            if not waiter.done():
                waiter.set_result(True)
        self._acknowledge.clear()
        self._tools.observer.durable(self.run, self.history)

    # --- obeying --------------------------------------------------------------------------------------

    def _obey(self) -> None:
        held, self._held = self._held, []
        for command in held:
            match command:
                case c.StartAttempt():
                    self._start(command)
                case c.StartTimer():
                    self._start_timer(command)
                case c.CancelAttempt():
                    self._cancel(command)
                case c.EvaluateCondition() | c.RecoverStep() | c.FinishRun():
                    self._spawn(self._decide_later(command))
                case _:
                    assert_never(command)

    def _start(self, command: c.StartAttempt) -> None:
        key = (command.path, command.attempt)
        if self.history.state.running.get(command.path) != command.attempt:
            self._tools.slots.give_back()
            return
        task = self._attempts[key] = self._spawn(self._attempt(command))
        task.add_done_callback(lambda _: self._attempt_over(key))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._task_over)
        return task

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defect = defect
            self._wake_up()

    async def _attempt(self, command: c.StartAttempt) -> None:
        step = self._workflow.steps[command.path]
        with self._tools.observer.attempt(self.run, step, command.attempt) as emit:
            facts = await self._tools.attempts.execute(
                self.run, step, command.attempt, self._data.names, emit
            )
        for fact in facts:
            self.post(fact)

    def _attempt_over(self, key: tuple[str, int]) -> None:
        self._tools.slots.give_back()
        task = self._attempts.pop(key)
        if task.cancelled():
            path, attempt = key
            self.post(Fact(event=e.AttemptCancelled(path=path, attempt=attempt, at=self._tools.clock.now())))

    def _cancel(self, command: c.CancelAttempt) -> None:
        task = self._attempts.get((command.path, command.attempt))
        if task is not None:
            task.cancel()
        else:
            now = self._tools.clock.now()
            self.post(Fact(event=e.AttemptCancelled(path=command.path, attempt=command.attempt, at=now)))

    def _start_timer(self, command: c.StartTimer) -> None:
        timer = command.timer
        key = "" if isinstance(timer, c.RunTimer) else timer.path
        delay = max(0.0, command.due_at - self._tools.clock.now())
        loop = asyncio.get_running_loop()
        self._timers[key] = loop.call_later(delay, self._timer_fired, key, command)

    def _timer_fired(self, key: str, command: c.StartTimer) -> None:
        self._timers.pop(key, None)
        now = max(self._tools.clock.now(), command.due_at)
        match command.timer:
            case c.RunTimer():
                self.post(Fact(event=e.RunTimeoutReached(at=now)))
            case c.AttemptTimer(path=path, attempt=attempt):
                self.post(Fact(event=e.AttemptTimedOut(path=path, attempt=attempt, at=now)))
            case c.RetryTimer(path=path, attempt=attempt):
                self.post(Fact(event=e.RetryDue(path=path, attempt=attempt, at=now)))
            case _:
                assert_never(command.timer)

    async def _decide_later(self, command: c.EvaluateCondition | c.RecoverStep | c.FinishRun) -> None:
        self.post(await self._tools.decisions.later(self._workflow, command, self._data.names))


_BRINGS_OUTPUTS = (e.StepSucceeded, e.StepRecovered)
_ENDS_ATTEMPT = (e.StepSucceeded, e.AttemptFailed, e.AttemptTimedOut, e.AttemptLost, e.AttemptCancelled)
_CHANGES_STATUS = frozenset(
    kind.__name__
    for kind in (
        e.RunStarted,
        e.CancelRequested,
        e.RunTimeoutReached,
        e.RunCompleted,
        e.RunFailed,
        e.RunCancelled,
        e.RunTimedOut,
    )
)


def _status_change(rows: Sequence[JournalRow], history: History) -> StatusChange | None:
    """How the `runs` row changes with these events, if it does."""
    types = {row.type for row in rows} & _CHANGES_STATUS
    if not types:
        return None
    started_at = history.started_at if e.RunStarted.__name__ in types else None
    return StatusChange(status=history.status, started_at=started_at, finished_at=history.ended_at)


async def _persist(write: Callable[[], Awaitable[None]]) -> None:
    """Offer a write until the store takes it; what was done outside must not be forgotten."""
    try:
        await write()
    except StoreUnavailable:
        log.warning("journal.unavailable")
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(StoreUnavailable),
            wait=wait_exponential_jitter(multiplier=0.1, jitter=0.1, max=5.0),
        ):
            with attempt:
                await write()
