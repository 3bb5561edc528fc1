"""What the core asks the engine to do next. Each command is answered by an event, named in its docstring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.core.events import Event, Failure

Outcome = Literal["completed", "failed", "cancelled", "timed_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Append this event as it is: a decision that needs nobody else's help."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateCondition:
    """Evaluate a step's gate → `ConditionEvaluated` or `ConditionFailed`."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """Start a try → `AttemptStarted` at once, then its outcome."""

    path: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterStep:
    """Evaluate what a control step begins with → `BranchChosen`, `ItemsCounted`, `WaitStarted`,
    `ApprovalRequested`, `ChildStarted` or `EvaluationFailed`."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckLoop:
    """Evaluate a loop's condition after an iteration → `LoopChecked` or `EvaluationFailed`."""

    path: str
    iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectBlock:
    """Put the outputs of a control step together → `BlockCompleted` or `EvaluationFailed`."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchChild:
    """Hand in the run of a `workflow` step, unless that was done before, and tell of its end →
    `ChildEnded`, or `ChildLaunched` where nobody waits for it."""

    path: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelChild:
    """End the run of a `workflow` step early → `ChildEnded`."""

    path: str
    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTimer:
    """Bounds a try → `AttemptTimedOut`."""

    path: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryTimer:
    """Delays a try → `RetryDue`."""

    path: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimer:
    """Bounds the run → `RunTimeoutReached`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitTimer:
    """Ends a `wait` → `WaitOver`."""

    path: str
    instant: bool = False
    """Whether it is over when the clock says so, and not after a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalTimer:
    """Bounds the time for an answer → `ApprovalExpired`."""

    path: str
    action: str | None
    """What the silence means; None: the step fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTimer:
    """Bounds a control step → `BlockTimedOut`."""

    path: str


Timer = AttemptTimer | RetryTimer | RunTimer | WaitTimer | ApprovalTimer | BlockTimer


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTimer:
    """Report the timer's event at `due_at` (epoch seconds), unless the step has moved on by then."""

    timer: Timer
    due_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAttempt:
    """Abort a try in flight → `AttemptCancelled` where its block is being stopped, nothing after a
    timeout."""

    path: str
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoverStep:
    """Make the `on_error` value of a failed step → `StepRecovered` or `StepFailed`."""

    path: str
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRun:
    """End the run → the terminal event. `path` and `failure` tell which step failed first."""

    outcome: Outcome
    path: str | None = None
    failure: Failure | None = None


Command = (
    Record
    | EvaluateCondition
    | EnterStep
    | CheckLoop
    | CollectBlock
    | LaunchChild
    | CancelChild
    | StartAttempt
    | StartTimer
    | CancelAttempt
    | RecoverStep
    | FinishRun
)
