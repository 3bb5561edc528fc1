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
    """A try was aborted because the run is ending."""

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
class NoticeEmitted:
    """A step had something to record; it changes nothing."""

    path: str
    attempt: int
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
    """Every step ended and none failed."""

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
    | NoticeEmitted
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
