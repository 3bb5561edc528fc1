"""A pure world around the core: virtual time, people, other runs, crashes after any event.

It drives a plan as the runner does (fold facts and the decisions that follow; then begin what was decided),
and holds the core to what must be true at every moment. What is true of a whole run is for the tests.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Child, Plan
from app.core.scheduler import decide, evolve, in_flight, next_due, quiescent
from app.core.state import RunState, initial_state
from app.core.transitions import accepts
from tests.core.answers import CANCELLED_CHILD, answers
from tests.core.documents import CLASSES
from tests.core.invariants import begun, check_moment
from tests.core.rumours import rumour

RUN_ID = "run-1"
Question = (
    c.EvaluateCondition
    | c.EnterStep
    | c.CheckLoop
    | c.CollectBlock
    | c.RecoverStep
    | c.StartAttempt
    | c.FinishRun
)
"""What may take a while to be answered."""


class Died(Exception):
    """The process is gone; what was folded is durable, what was to follow was not begun."""


@dataclass(frozen=True)
class Weather:
    """What befalls a run: chances of each happening."""

    failing: float = 0.0
    crashing: float = 0.0
    pausing: float = 0.0
    deferring: float = 0.0
    cancels: Sequence[int] = ()
    """After how many events somebody asks for the end."""
    slow: float = 0.3
    """Answers that take a while."""
    rumours: int = 0
    """Events out of thin air, offered before each thing that happens."""


@dataclass
class OtherRun:
    """What a `workflow` step called; it outlives the process."""

    ended: bool = False
    failure: e.Failure | None = None


@dataclass
class World:
    """Drives one plan to its end."""

    plan: Plan
    seed: int = 0
    weather: Weather = field(default_factory=Weather)
    journal: list[e.Event] = field(default_factory=list)
    executed: Counter[tuple[str, int]] = field(default_factory=Counter)
    children: dict[str, OtherRun] = field(default_factory=dict)
    observe: Callable[[int], None] = lambda count: None
    """Told of every event, by how many there are now."""
    parkings: int = 0
    crashes: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.sampler = random.Random(self.seed)
        self.now = 1000.0
        self.cancels = sorted(self.weather.cancels, reverse=True)
        self.state: RunState = initial_state(RUN_ID, self.plan)
        self._forget()

    def _forget(self) -> None:
        """Everything a process knows besides the state."""
        self.flying: list[tuple[str, int]] = []
        self.timers: list[c.StartTimer] = []
        self.pending: list[Question] = []
        self.held: list[c.Command] = []
        self.watched: dict[str, str] = {}
        """Other runs whose end is reported here: id → path."""
        self.handed_over: set[c.Command] = set()

    def run(self, max_events: int = 10_000) -> RunState:
        """Play until the run has ended; fails if it does not."""
        ticks = 0
        while not self.state.terminal:
            ticks += 1
            assert max(len(self.journal), ticks) < max_events, "the run does not terminate"
            try:
                self._tick()
            except Died:
                self.crashes += 1
                self._take_up()
        return self.state

    def replay(self, count: int | None = None) -> RunState:
        """Fold the journal, or its first events."""
        state = initial_state(RUN_ID, self.plan)
        for event in self.journal[:count]:
            evolve(state, event)
        return state

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _tick(self) -> None:
        self.now += self.random.random() * 0.1
        if not self.journal:
            self._take(e.RunSubmitted(at=self.now))
        elif self.cancels and len(self.journal) >= self.cancels[-1]:
            self.cancels.pop()
            if self.state.parked:
                self._take(e.RunWoken(at=self.now))
            self._offer(e.CancelRequested(reason=None, at=self.now))
        elif len(self.journal) == 1:
            self._take(e.RunStarted(at=self.now))
        elif not self.state.parked:
            self._rumours()
            if not self.state.terminal and not self._park():
                self._something_happens()
        else:
            self._wake()
        self._settle()

    # --- folding, deciding, obeying -------------------------------------------------------------------

    def _take(self, event: e.Event) -> None:
        before = begun(self.state)
        evolve(self.state, event)
        if isinstance(event, e.RunPaused):
            self._forget_starts()
        self.journal.append(event)
        check_moment(self.state, event, before)
        self.observe(len(self.journal))
        if self._chance(self.weather.crashing) and not self.state.terminal:
            raise Died

    def _forget_starts(self) -> None:
        """What was to start and has not is asked for again after the pause."""
        self.handed_over = {one for one in self.handed_over if not isinstance(one, c.StartAttempt)}
        self.pending = [one for one in self.pending if not isinstance(one, c.StartAttempt)]

    def _offer(self, event: e.Event) -> None:
        if accepts(self.state, event):
            self._take(event)

    def _settle(self) -> None:
        while True:
            while due := decide(self.state):
                for command in due:
                    assert command not in self.handed_over, f"{command} twice"
                    self.handed_over.add(command)
                    for event in answers(command, self.state, self.now, self.sampler):
                        assert accepts(self.state, event), f"{command} asks for what cannot happen"
                for answer in [self._answer(command) for command in due]:
                    if answer is not None:
                        self._take(answer)
            if not self.held:
                return
            held, self.held = self.held, []
            for command in held:
                self._obey(command)

    def _answer(self, command: c.Command) -> e.Event | None:
        """The event at once, or None for what is begun when all of this is durable."""
        match command:
            case c.Record(event=event):
                return event
            case c.StartTimer() | c.CancelAttempt() | c.LaunchChild() | c.CancelChild():
                self.held.append(command)
                return None
            case _:
                if self._chance(self.weather.slow):
                    self.pending.append(command)
                    return None
                return self._find_out(command)

    def _find_out(self, question: Question) -> e.Event:
        """One of its answers, as the weather has it."""
        if isinstance(question, c.StartAttempt):
            self.held.append(question)
        first, *others = answers(question, self.state, self.now, self.random)
        failing = self.weather.failing * 0.3
        return self.random.choice(others) if others and self._chance(failing) else first

    def _obey(self, command: c.Command) -> None:
        match command:
            case c.StartTimer():
                self.timers.append(command)
            case c.StartAttempt(path=path, attempt=attempt):
                if self.state.running.get(path) == attempt:
                    self.executed[path, attempt] += 1
                    self.flying.append((path, attempt))
            case c.CancelAttempt(path=path, attempt=attempt):
                if (path, attempt) in self.flying:
                    self.flying.remove((path, attempt))
                    if self._chance(0.2):
                        self._offer(e.StepSucceeded(path=path, attempt=attempt, at=self.now))
                self._offer(e.AttemptCancelled(path=path, attempt=attempt, at=self.now))
            case c.LaunchChild(path=path, run_id=run_id):
                self._launch(path, run_id)
            case c.CancelChild(path=path, run_id=run_id):
                child = self.children.setdefault(run_id, OtherRun())
                if not child.ended:
                    child.ended, child.failure = True, CANCELLED_CHILD
                self._offer(e.ChildEnded(path=path, failure=child.failure, at=self.now))

    def _launch(self, path: str, run_id: str) -> None:
        child = self.children.setdefault(run_id, OtherRun())
        control = self.state.steps[path].node.control
        if isinstance(control, Child) and not control.wait:
            self._offer(e.ChildLaunched(path=path, at=self.now))
        elif child.ended:
            self._offer(e.ChildEnded(path=path, failure=child.failure, at=self.now))
        else:
            self.watched[run_id] = path

    def _rumours(self) -> None:
        for _ in range(self.weather.rumours):
            event = rumour(self.state, self.random, self.now)
            if not isinstance(event, e.AttemptStarted):  # somebody would have to carry it out
                self._offer(event)
        self._settle()

    # --- what happens outside -------------------------------------------------------------------------

    def _something_happens(self) -> None:
        assert quiescent(self.state) or self.flying or self.pending, "the core waits for nothing"
        assert not (quiescent(self.state) and in_flight(self.state))
        if self._chance(self.weather.pausing):
            paused = self.state.paused
            self._offer(e.RunResumed(at=self.now) if paused else e.RunPaused(reason=None, at=self.now))
            return
        options = [
            *[self._attempt_ends] * (4 * bool(self.flying)),
            *[self._question_answered] * (4 * bool(self.pending)),
            *[self._timer_fires] * bool(self.timers),
            *[self._other_run_ends] * bool(self._open_children()),
            *[self._somebody_answers] * bool(self._approvals()),
        ]
        if not options:
            assert self.state.paused, "nothing is under way, and the run has not ended"
            options.append(self._resumed)
        self.random.choice(options)()

    def _attempt_ends(self) -> None:
        path, attempt = self.flying.pop(self.random.randrange(len(self.flying)))
        if self._chance(self.weather.deferring):
            self._offer(e.RunPaused(reason="budget", at=self.now))
            self._offer(e.AttemptDeferred(path=path, attempt=attempt, at=self.now))
            return
        self._offer(e.NoticeEmitted(path=path, attempt=attempt, at=self.now))
        if self._chance(self.weather.failing):
            failure = self._failure()
            self._offer(e.AttemptFailed(path=path, attempt=attempt, failure=failure, at=self.now))
        else:
            self._offer(e.StepSucceeded(path=path, attempt=attempt, at=self.now))

    def _failure(self) -> e.Failure:
        name = self.random.choice(CLASSES)
        retry_after = self.random.choice([None, None, 3.0])
        return e.Failure(
            error_class=name, message="scripted", temporary=name != CLASSES[2], retry_after=retry_after
        )

    def _question_answered(self) -> None:
        question = self.pending.pop(self.random.randrange(len(self.pending)))
        path = getattr(question, "path", None)
        if path is None or path in self.state.steps:
            self._offer(self._find_out(question))

    def _timer_fires(self) -> None:
        earliest = min(range(len(self.timers)), key=lambda index: self.timers[index].due_at)
        timer = self.timers.pop(
            self.random.randrange(len(self.timers)) if self._chance(0.1) else earliest  # clocks differ
        )
        self.now = max(self.now, timer.due_at)
        self._offer(*answers(timer, self.state, self.now, self.sampler))

    def _counts(self, timer: c.StartTimer) -> bool:
        (event,) = answers(timer, self.state, self.now, self.sampler)
        return accepts(self.state, event)

    def _open_children(self) -> list[str]:
        return [run_id for run_id, child in self.children.items() if not child.ended]

    def _other_run_ends(self) -> None:
        run_id = self.random.choice(self._open_children())
        child = self.children[run_id]
        child.ended = True
        child.failure = self._failure() if self._chance(self.weather.failing) else None
        if run_id in self.watched:
            self._offer(e.ChildEnded(path=self.watched.pop(run_id), failure=child.failure, at=self.now))

    def _approvals(self) -> list[str]:
        return [
            path
            for path, step in self.state.steps.items()
            if isinstance(step.node.control, Approval) and step.status == "waiting"
        ]

    def _somebody_answers(self) -> None:
        path = self.random.choice(self._approvals())
        self._offer(e.ApprovalAnswered(path=path, action="approve", by="someone", at=self.now))

    def _resumed(self) -> None:
        self._offer(e.RunResumed(at=self.now))

    # --- rest and recovery ----------------------------------------------------------------------------

    def _park(self) -> bool:
        """Leave memory if nothing is under way; what comes back is folded from the journal."""
        if self.flying or self.pending or not quiescent(self.state) or not self._chance(0.2):
            return False
        wake_at = next_due(self.state)
        assert wake_at == min((one.due_at for one in self.timers if self._counts(one)), default=None)
        self._take(e.RunParked(wake_at=wake_at, at=self.now))
        self.parkings += 1
        self._forget()
        self.state = self.replay()
        return True

    def _wake(self) -> None:
        """A time has come, another run ended, somebody acts: the run is taken up again."""
        wake_at = next_due(self.state)
        outside = self._open_children() or self._approvals() or self.state.paused or self.cancels
        assert outside or wake_at is not None, "nothing wakes the run"
        if wake_at is not None and (not outside or self._chance(0.5)):
            self.now = max(self.now, wake_at)
        elif self._open_children():
            self._other_run_ends()
        self._take(e.RunWoken(at=self.now))

    def _take_up(self) -> None:
        """What was in memory is gone; the journal is folded, and what was in flight is lost."""
        self._forget()
        self.state = self.replay()
        try:
            if self.state.parked:
                self._take(e.RunWoken(at=self.now))
            for path, attempt in in_flight(self.state):
                self._take(e.AttemptLost(path=path, attempt=attempt, at=self.now))
            self._settle()
        except Died:
            self.crashes += 1
            self._take_up()
