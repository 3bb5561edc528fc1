"""A pure world around the core: virtual time, scripted outcomes, crashes between any two events."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from app.core import commands as c
from app.core import events as e
from app.core.plan import Plan
from app.core.scheduler import decide, evolve, in_flight
from app.core.state import RunState, initial_state
from app.core.transitions import accepts

RUN_ID = "run-1"


@dataclass
class World:
    """Drives a plan to its end. `outcome` says how an attempt goes; `crash` whether the process dies now."""

    plan: Plan
    outcome: Callable[[str, int], e.Failure | None]
    gate: Callable[[str], bool | e.Failure] = lambda path: True
    crash: Callable[[], bool] = lambda: False
    seed: int = 0
    cancel_after: int | None = None
    journal: list[e.Event] = field(default_factory=list)
    executed: list[tuple[str, int]] = field(default_factory=list)
    handed_over: list[c.Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.now = 1000.0
        self.state: RunState = initial_state(RUN_ID, self.plan)
        self.flying: list[tuple[str, int]] = []
        self.timers: list[c.StartTimer] = []

    def run(self, max_events: int = 20_000) -> RunState:
        """Play until the run has ended; fails if it does not."""
        self._take(e.RunSubmitted(at=self.now))
        self._take(e.RunStarted(at=self.now))
        while not self.state.terminal:
            assert len(self.journal) < max_events, "the run does not terminate"
            if self.crash():
                self._die_and_recover()
            elif self.cancel_after is not None and len(self.journal) >= self.cancel_after:
                self.cancel_after = None
                self._offer(e.CancelRequested(reason=None, at=self.now))
            else:
                self._something_happens()
        return self.state

    def replay(self) -> RunState:
        """Fold the journal from the start."""
        state = initial_state(RUN_ID, self.plan)
        for event in self.journal:
            evolve(state, event)
        return state

    def _take(self, event: e.Event) -> None:
        evolve(self.state, event)
        self.journal.append(event)
        self._obey()

    def _offer(self, event: e.Event) -> None:
        if accepts(self.state, event):
            self._take(event)

    def _obey(self) -> None:
        for command in decide(self.state):
            self.handed_over.append(command)
            match command:
                case c.Record(event=event):
                    self._take(event)
                case c.StartAttempt(path=path, attempt=attempt):
                    self._take(e.AttemptStarted(path=path, attempt=attempt, at=self.now))
                    self.flying.append((path, attempt))
                    self.executed.append((path, attempt))
                case c.EvaluateCondition(path=path):
                    self._answer_gate(path)
                case c.StartTimer():
                    self.timers.append(command)
                case c.CancelAttempt(path=path, attempt=attempt):
                    if (path, attempt) in self.flying:
                        self.flying.remove((path, attempt))
                        self._offer(e.AttemptCancelled(path=path, attempt=attempt, at=self.now))
                case c.RecoverStep(path=path, failure=failure):
                    self._take(e.StepRecovered(path=path, failure=failure, at=self.now))
                case c.FinishRun():
                    self._finish(command)

    def _answer_gate(self, path: str) -> None:
        answer = self.gate(path)
        if isinstance(answer, e.Failure):
            self._take(e.ConditionFailed(path=path, failure=answer, at=self.now))
        else:
            self._take(e.ConditionEvaluated(path=path, passed=answer, at=self.now))

    def _finish(self, command: c.FinishRun) -> None:
        match command.outcome:
            case "completed":
                self._take(e.RunCompleted(at=self.now))
            case "failed":
                assert command.failure is not None
                self._take(e.RunFailed(path=command.path, failure=command.failure, at=self.now))
            case "cancelled":
                self._take(e.RunCancelled(at=self.now))
            case "timed_out":
                self._take(e.RunTimedOut(at=self.now))

    def _something_happens(self) -> None:
        """An attempt ends or a timer fires, in any order the world likes."""
        self.now += self.random.random()
        if self.flying and (not self.timers or self.random.random() < 0.7):
            path, attempt = self.flying.pop(self.random.randrange(len(self.flying)))
            failure = self.outcome(path, attempt)
            if failure is None:
                self._offer(e.StepSucceeded(path=path, attempt=attempt, at=self.now))
            else:
                self._offer(e.AttemptFailed(path=path, attempt=attempt, failure=failure, at=self.now))
            return
        assert self.timers, "nothing is in flight, no timer runs, and the run has not ended"
        self._fire(self.timers.pop(self.random.randrange(len(self.timers))))

    def _fire(self, command: c.StartTimer) -> None:
        self.now = max(self.now, command.due_at)
        match command.timer:
            case c.AttemptTimer(path=path, attempt=attempt):
                self._offer(e.AttemptTimedOut(path=path, attempt=attempt, at=self.now))
            case c.RetryTimer(path=path, attempt=attempt):
                self._offer(e.RetryDue(path=path, attempt=attempt, at=self.now))
            case c.RunTimer():
                self._offer(e.RunTimeoutReached(at=self.now))

    def _die_and_recover(self) -> None:
        """What was in memory is gone; the journal is folded, and what was in flight is lost."""
        self.flying.clear()
        self.timers.clear()
        self.state = self.replay()
        for path, attempt in in_flight(self.state):
            lost = e.AttemptLost(path=path, attempt=attempt, at=self.now)
            evolve(self.state, lost)
            self.journal.append(lost)
        self._obey()
