"""Which events may happen when: two tables and the check that reads them.

The check comes before any change, so that an impossible event leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.core import events as e
from app.core.state import RunPhase, RunState, StepStatus

S = StepStatus
P = RunPhase


class InvalidTransition(Exception):
    """The event cannot have happened in this state: the journal and the code disagree."""


RUN_PHASES: Final[Mapping[type[e.Event], frozenset[RunPhase | None]]] = {
    e.RunSubmitted: frozenset({None}),
    e.RunStarted: frozenset({P.SUBMITTED}),
    e.CancelRequested: frozenset({P.SUBMITTED, P.RUNNING}),
    e.RunTimeoutReached: frozenset({P.RUNNING}),
    e.RunCompleted: frozenset({P.RUNNING}),
    e.RunFailed: frozenset({P.SUBMITTED, P.RUNNING}),
    e.RunCancelled: frozenset({P.ENDING}),
    e.RunTimedOut: frozenset({P.ENDING}),
    e.AttemptCancelled: frozenset({P.ENDING}),
    e.StepSucceeded: frozenset({P.RUNNING, P.ENDING}),
    e.AttemptFailed: frozenset({P.RUNNING, P.ENDING}),
    e.AttemptLost: frozenset({P.RUNNING, P.ENDING}),
    e.NoticeEmitted: frozenset({P.RUNNING, P.ENDING}),
}
"""Phases in which an event may happen; events that are not listed need a running run."""

STEP_STATUSES: Final[Mapping[type[e.Event], frozenset[StepStatus]]] = {
    e.ConditionEvaluated: frozenset({S.EVALUATING}),
    e.ConditionFailed: frozenset({S.EVALUATING}),
    e.AttemptStarted: frozenset({S.STARTING, S.READY}),
    e.StepSucceeded: frozenset({S.RUNNING}),
    e.AttemptFailed: frozenset({S.RUNNING}),
    e.AttemptTimedOut: frozenset({S.RUNNING}),
    e.AttemptLost: frozenset({S.RUNNING}),
    e.AttemptCancelled: frozenset({S.RUNNING}),
    e.NoticeEmitted: frozenset({S.RUNNING}),
    e.RetryScheduled: frozenset({S.FAILING}),
    e.RetryDue: frozenset({S.RETRYING}),
    e.StepFailed: frozenset({S.FAILING}),
    e.StepRecovered: frozenset({S.FAILING}),
    e.StepSkipped: frozenset({S.PENDING, S.EVALUATING}),
}
"""Statuses of its step in which an event may happen."""

OF_THE_NEXT_ATTEMPT: Final = frozenset({e.AttemptStarted, e.RetryScheduled, e.RetryDue})
NOTHING_IN_FLIGHT: Final = frozenset({e.RunFailed, e.RunCancelled, e.RunTimedOut})
ONLY_RUNNING: Final[frozenset[RunPhase | None]] = frozenset({P.RUNNING})


def check(state: RunState, event: e.Event) -> None:
    """Raise `InvalidTransition` unless the event may happen now."""
    problem = _problem(state, event)
    if problem is not None:
        raise InvalidTransition(f"{type(event).__name__} cannot happen in run {state.run_id!r}: {problem}")


def accepts(state: RunState, event: e.Event) -> bool:
    """Whether the event may happen now: late news of what has moved on may not."""
    return _problem(state, event) is None


def _problem(state: RunState, event: e.Event) -> str | None:
    kind = type(event)
    if state.phase not in RUN_PHASES.get(kind, ONLY_RUNNING):
        return f"the run is {state.phase}"
    statuses = STEP_STATUSES.get(kind)
    if statuses is not None:
        return _step_problem(state, event, statuses)
    if kind is e.RunCompleted and (state.open_steps or state.first_failure):
        return "not every step has ended well"
    if kind in NOTHING_IN_FLIGHT and state.running:
        return f"{next(iter(state.running))!r} is in flight"
    return None


def _step_problem(state: RunState, event: e.Event, statuses: frozenset[StepStatus]) -> str | None:
    path = getattr(event, "path", None)
    step = state.steps.get(path) if path is not None else None
    if step is None:
        return f"there is no step {path!r}"
    if step.status not in statuses:
        return f"step {path!r} is {step.status}"
    attempt = getattr(event, "attempt", None)
    if attempt is not None:
        expected = step.attempt + 1 if type(event) in OF_THE_NEXT_ATTEMPT else step.attempt
        if attempt != expected:
            return f"attempt {attempt} of step {path!r} is not the current one ({expected})"
    elif step.waiting_for and isinstance(event, e.StepSkipped):
        return f"step {path!r} waits for {step.waiting_for} dependencies"
    return None
