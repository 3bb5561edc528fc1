"""Which events may happen when: tables, and the check that reads them.

The check comes before any change, so that an impossible event leaves the state as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.core import events as e
from app.core import plan as p
from app.core.state import RunPhase, RunState, StepState, StepStatus

S = StepStatus
P = RunPhase


class InvalidTransition(Exception):
    """The event cannot have happened in this state: the journal and the code disagree."""


RUN_PHASES: Final[Mapping[type[e.Event], frozenset[RunPhase | None]]] = {
    e.RunSubmitted: frozenset({None}),
    e.RunStarted: frozenset({P.SUBMITTED}),
    e.CancelRequested: frozenset({P.SUBMITTED, P.RUNNING, P.ENDING}),
    e.RunPaused: frozenset({P.SUBMITTED, P.RUNNING}),
    e.RunResumed: frozenset({P.SUBMITTED, P.RUNNING}),
    e.RunTimeoutReached: frozenset({P.RUNNING}),
    e.RunCompleted: frozenset({P.RUNNING}),
    e.RunFailed: frozenset({P.SUBMITTED, P.RUNNING, P.ENDING}),
    e.RunCancelled: frozenset({P.ENDING}),
    e.RunTimedOut: frozenset({P.ENDING}),
}
"""Phases in which an event may happen; events that are not listed need a run that was started."""
STARTED: Final[frozenset[RunPhase | None]] = frozenset({P.RUNNING, P.ENDING})

STEP_STATUSES: Final[Mapping[type[e.Event], frozenset[StepStatus]]] = {
    e.ConditionEvaluated: frozenset({S.EVALUATING}),
    e.ConditionFailed: frozenset({S.EVALUATING}),
    e.AttemptStarted: frozenset({S.STARTING, S.READY}),
    e.StepSucceeded: frozenset({S.RUNNING}),
    e.AttemptFailed: frozenset({S.RUNNING}),
    e.AttemptTimedOut: frozenset({S.RUNNING}),
    e.AttemptLost: frozenset({S.RUNNING}),
    e.AttemptCancelled: frozenset({S.RUNNING}),
    e.AttemptDeferred: frozenset({S.RUNNING}),
    e.NoticeEmitted: frozenset({S.RUNNING}),
    e.RetryScheduled: frozenset({S.FAILING}),
    e.RetryDue: frozenset({S.RETRYING}),
    e.StepFailed: frozenset({S.FAILING}),
    e.StepRecovered: frozenset({S.FAILING}),
    e.StepSkipped: frozenset({S.PENDING}),
    e.BlockEntered: frozenset({S.ENTERING}),
    e.BranchChosen: frozenset({S.ENTERING}),
    e.ItemsCounted: frozenset({S.ENTERING}),
    e.LoopChecked: frozenset({S.OPEN}),
    e.WaitStarted: frozenset({S.ENTERING}),
    e.WaitOver: frozenset({S.WAITING}),
    e.ApprovalRequested: frozenset({S.ENTERING}),
    e.ApprovalAnswered: frozenset({S.WAITING}),
    e.ApprovalExpired: frozenset({S.WAITING}),
    e.ChildStarted: frozenset({S.ENTERING}),
    e.ChildLaunched: frozenset({S.WAITING}),
    e.ChildEnded: frozenset({S.WAITING, S.STOPPING}),
    e.EvaluationFailed: frozenset({S.ENTERING, S.OPEN, S.COLLECTING}),
    e.BlockCompleted: frozenset({S.COLLECTING}),
    e.BlockTimedOut: frozenset({S.ENTERING, S.OPEN, S.COLLECTING, S.WAITING}),
}
"""Statuses of its step in which an event may happen."""

CONTROLS: Final[Mapping[type[e.Event], tuple[type[p.Control], ...]]] = {
    e.BlockEntered: (p.Parallel, p.Loop),
    e.BranchChosen: (p.Branch,),
    e.ItemsCounted: (p.Map,),
    e.LoopChecked: (p.Loop,),
    e.WaitStarted: (p.Wait,),
    e.WaitOver: (p.Wait,),
    e.ApprovalRequested: (p.Approval,),
    e.ApprovalAnswered: (p.Approval,),
    e.ApprovalExpired: (p.Approval,),
    e.ChildStarted: (p.Child,),
    e.ChildLaunched: (p.Child,),
    e.ChildEnded: (p.Child,),
}
"""What kind of control step an event belongs to."""

TIMERS: Final[Mapping[type[e.Event], str]] = {
    e.AttemptTimedOut: "timer",
    e.RetryDue: "timer",
    e.WaitOver: "timer",
    e.ApprovalExpired: "timer",
    e.BlockTimedOut: "block",
}
"""Events that say that a time of their step is over, and the name of its timer."""

WHILE_STOPPING: Final = frozenset(
    {
        e.StepSucceeded,
        e.AttemptFailed,
        e.AttemptLost,
        e.AttemptCancelled,
        e.AttemptDeferred,
        e.NoticeEmitted,
        e.ChildEnded,
    }
)
"""What may still happen to a step whose block is being stopped."""
OF_THE_NEXT_ATTEMPT: Final = frozenset({e.AttemptStarted, e.RetryScheduled, e.RetryDue})
TERMINAL: Final = frozenset(e.TERMINAL)
OF_RUNS: Final = frozenset(
    {e.RunPaused, e.RunResumed, e.RunParked, e.RunWoken, e.RunTimeoutReached, e.CancelRequested}
)
"""Events of the whole run that its phase alone does not decide."""


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
    if state.phase not in RUN_PHASES.get(kind, STARTED):
        return f"the run is {state.phase}"
    statuses = STEP_STATUSES.get(kind)
    if statuses is not None:
        return _step_problem(state, event, statuses)
    if kind in TERMINAL:
        return _end_problem(state, event)
    return _run_problem(state, event) if kind in OF_RUNS else None


def _end_problem(state: RunState, event: e.Event) -> str | None:
    if state.running:
        return f"{next(iter(state.running))!r} is in flight"
    if isinstance(event, e.RunFailed):
        return None  # also for what is beyond the run: outputs that cannot be made, a defect
    if not state.finishing:
        return "not every step has ended"
    expected = {e.RunCompleted: "completed", e.RunCancelled: "cancelled", e.RunTimedOut: "timed_out"}
    if state.outcome != expected[type(event)]:
        return f"it is to end as {state.outcome}"
    return None


def _run_problem(state: RunState, event: e.Event) -> str | None:  # noqa: PLR0911  one answer an event
    match event:
        case e.RunPaused() if state.paused:
            return "it is paused already"
        case e.RunResumed() if not state.paused:
            return "it is not paused"
        case e.RunParked() if state.parked or state.running or state.finishing:
            return "it is not at rest"
        case e.RunWoken() if not state.parked:
            return "it is not parked"
        case e.RunTimeoutReached() if state.stage != "main":
            # After its last step, with no stage to follow, it is told by journals of the first version.
            return "its own steps have ended"
        case e.CancelRequested() if state.phase is P.ENDING and (state.root.stopping or state.finishing):
            return "it is ending already"
        case _:
            return None


def _step_problem(state: RunState, event: e.Event, statuses: frozenset[StepStatus]) -> str | None:
    path = getattr(event, "path", None)
    step = state.steps.get(path) if path is not None else None
    if step is None:
        return f"there is no step {path!r}"
    if step.status not in statuses:
        return f"step {path!r} is {step.status}"
    if step.scope.stopping and type(event) not in WHILE_STOPPING:
        return f"the block of step {path!r} is being stopped"
    if state.paused and isinstance(event, e.AttemptStarted):
        return "the run is paused"
    attempt = getattr(event, "attempt", None)
    problem = _unfitting(step, event) if attempt is None else _attempt_problem(step, event, attempt)
    timer = TIMERS.get(type(event))
    if problem is None and timer is not None and (timer, step.path) not in state.timers:
        return f"no such time was set for step {path!r}"
    return problem


def _attempt_problem(step: StepState, event: e.Event, attempt: int) -> str | None:
    if step.node.control is not None:
        return f"step {step.path!r} makes no attempts"
    expected = step.attempt + 1 if type(event) in OF_THE_NEXT_ATTEMPT else step.attempt
    if attempt != expected:
        return f"attempt {attempt} of step {step.path!r} is not the current one ({expected})"
    match event:
        case e.AttemptCancelled() if not step.scope.stopping:
            return f"the block of step {step.path!r} is not being stopped"
        case e.AttemptStarted() if step.scope.limit is not None and not step.admitted:
            return f"it is not the turn of step {step.path!r}"
        case _:
            return None


def _unfitting(step: StepState, event: e.Event) -> str | None:  # noqa: PLR0911  one answer an event
    """Why an event that is about no attempt does not fit the step."""
    match event:
        case e.StepSkipped() if step.waiting_for:
            return f"step {step.path!r} waits for {step.waiting_for} dependencies"
        case e.StepRecovered() if not step.node.continues:
            return f"step {step.path!r} has no value to go on with"
        case e.EvaluationFailed() if step.control is not None and step.control.open:
            return f"steps within {step.path!r} are under way"
        case e.ChildLaunched() if isinstance(step.node.control, p.Child) and step.node.control.wait:
            return f"step {step.path!r} waits for the end of the other run"
        case e.LoopChecked(iteration=iteration) if (
            step.control is None or step.control.open or step.control.count - 1 != iteration
        ):
            return f"iteration {iteration} of {step.path!r} is not the latest one, or is under way"
        case e.BranchChosen(case=str() as case) if (
            isinstance(step.node.control, p.Branch) and case not in step.node.control.cases
        ):
            return f"the branch {step.path!r} has no case {case!r}"
        case _:
            wanted = CONTROLS.get(type(event))
            if wanted is not None and not isinstance(step.node.control, wanted):
                return f"step {step.path!r} is none of {', '.join(one.__name__ for one in wanted)}"
            return None
