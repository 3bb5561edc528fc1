"""The facts of a run, in past tense. A closed union of frozen records; nothing else changes a state.

`path` names a step instance, `attempt` counts its tries from 1 (lost ones included), `at` is seconds
since the epoch. Time enters the core only here. Outputs and inputs are no control state: they travel
beside the events, in the journal's payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SkipReason = Literal["condition", "upstream_skipped", "upstream_failed", "run_on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why something failed. `retry_after` is the callee's floor for the delay, in seconds."""

    error_class: str
    message: str
    temporary: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSubmitted:
    """The run was accepted."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """An engine took the run up for the first time. `timeout` bounds it from here, in seconds."""

    at: float
    timeout: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionEvaluated:
    """The gate of a step was evaluated."""

    path: str
    passed: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionFailed:
    """The gate of a step could not be evaluated."""

    path: str
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStarted:
    """A try was about to begin; it begins once this is durable."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSucceeded:
    """A try brought outputs: the step is completed and never runs again."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed:
    """A try failed; whether another follows is decided next."""

    path: str
    attempt: int
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTimedOut:
    """A try took longer than its step allows and is being aborted."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLost:
    """The process that ran a try died; its outcome is unknown."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptCancelled:
    """A try was aborted because its block is being stopped."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled:
    """Try number `attempt` will start at `due_at`."""

    path: str
    attempt: int
    due_at: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDue:
    """The delay before try number `attempt` is over."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFailed:
    """The step failed for good."""

    path: str
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecovered:
    """The step failed, and its `on_error` value stands in for its outputs."""

    path: str
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSkipped:
    """The step will not run."""

    path: str
    reason: SkipReason
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptDeferred:
    """A try ended before it took any effect, for the run is to be paused; it counts for nothing."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockEntered:
    """A `parallel` or `loop` step began."""

    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BranchChosen:
    """The selector of a `branch` was evaluated. `case` is None where the default is meant."""

    path: str
    case: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsCounted:
    """The list of a `map` was evaluated; it has this many items."""

    path: str
    count: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopChecked:
    """The condition of a `loop` was evaluated after an iteration (from 0)."""

    path: str
    iteration: int
    done: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitStarted:
    """A `wait` began; it is over at `due_at`. `instant`: that is what the clock is to say, however it is set;
    otherwise it is so many seconds from here."""

    path: str
    due_at: float
    at: float
    instant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitOver:
    """A `wait` has lasted as long as it should: the step is completed."""

    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested:
    """An `approval` began: somebody is asked."""

    path: str
    approval_id: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAnswered:
    """Somebody answered: the step is completed."""

    path: str
    action: str
    by: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalExpired:
    """Nobody answered in time; the step's `on_timeout` says what that means."""

    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStarted:
    """A `workflow` step is about to hand in another run, under this id."""

    path: str
    run_id: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildLaunched:
    """The other run was accepted, and nobody waits for it: the step is completed."""

    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildEnded:
    """The other run ended; `failure` is None if it completed."""

    path: str
    failure: Failure | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationFailed:
    """What a control step needs to know could not be made out."""

    path: str
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCompleted:
    """All steps within a control step ended well, and its outputs are known: it is completed."""

    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockTimedOut:
    """A control step took longer than it may; what is under way within it is being aborted."""

    path: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEmitted:
    """A step had something to record; it changes nothing."""

    path: str
    attempt: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPaused:
    """Nothing further of the run starts; what is in flight goes on."""

    reason: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResumed:
    """A paused run goes on."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunParked:
    """Nothing of the run can happen before `wake_at` (None: before somebody acts); it needs no memory."""

    wake_at: float | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWoken:
    """A parked run was taken up again."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockMoved:
    """Somebody set the machine's clock, by so many seconds: what is due after a time is due as much later."""

    by: float
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """Somebody asked for the run to end."""

    reason: str | None
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimeoutReached:
    """The run took longer than it may."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCompleted:
    """Every step ended and none failed for good."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailed:
    """A step failed for good, or the run's outputs could not be made. `path` is None for the latter."""

    path: str | None
    failure: Failure
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCancelled:
    """The run ended on request; nothing of it is in flight."""

    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimedOut:
    """The run ended for lack of time; nothing of it is in flight."""

    at: float


Event = (
    RunSubmitted
    | RunStarted
    | ConditionEvaluated
    | ConditionFailed
    | AttemptStarted
    | StepSucceeded
    | AttemptFailed
    | AttemptTimedOut
    | AttemptLost
    | AttemptCancelled
    | RetryScheduled
    | RetryDue
    | StepFailed
    | StepRecovered
    | StepSkipped
    | AttemptDeferred
    | BlockEntered
    | BranchChosen
    | ItemsCounted
    | LoopChecked
    | WaitStarted
    | WaitOver
    | ApprovalRequested
    | ApprovalAnswered
    | ApprovalExpired
    | ChildStarted
    | ChildLaunched
    | ChildEnded
    | EvaluationFailed
    | BlockCompleted
    | BlockTimedOut
    | NoticeEmitted
    | RunPaused
    | RunResumed
    | RunParked
    | RunWoken
    | ClockMoved
    | CancelRequested
    | RunTimeoutReached
    | RunCompleted
    | RunFailed
    | RunCancelled
    | RunTimedOut
)
TerminalEvent = RunCompleted | RunFailed | RunCancelled | RunTimedOut
TERMINAL: Final = (RunCompleted, RunFailed, RunCancelled, RunTimedOut)
"""For `isinstance`: a tuple is checked several times faster than a union."""
