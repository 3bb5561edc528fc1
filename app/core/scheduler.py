"""The scheduler: facts in, commands out.

    evolve(state, event) folds a fact in; an impossible one raises and changes nothing
    decide(state)        hands over what is to be done now, each command once

Everything that is decided about a run is decided in this package: readiness, skips, failure propagation,
retries, blocks, timeouts, pauses, cancellation, the end. The same events give the same state and the same
commands, always. After a crash the journal is folded again: answered commands leave the agenda when their
event comes, so what `decide` then hands over is what nobody has answered.

What does not belong here: templates, outputs, clocks, tasks, storage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, assert_never

from app.core import attempts, control
from app.core import commands as c
from app.core import events as e
from app.core.readiness import (
    begin,
    dispatch,
    end_step,
    give_up,
    make_ready,
    open_scope,
    record,
    start_timer,
    take_back_starts,
)
from app.core.state import ENDED, RunPhase, RunState, Stage, StepState, StepStatus
from app.core.stopping import stop_scope
from app.core.transitions import check


def evolve(state: RunState, event: e.Event) -> RunState:
    """Fold one event in. Raises `InvalidTransition` and changes nothing if it cannot have happened."""
    check(state, event)
    state.now = event.at
    FOLDS[type(event)](state, event)
    while state.ended_scopes:
        scope = state.ended_scopes.popleft()
        if scope.owner is not None:
            control.scope_ended(state, state.steps[scope.owner], scope)
        else:
            _stage_ended(state)
    if state.ready or state.held:
        dispatch(state)
    return state


def decide(state: RunState) -> Sequence[c.Command]:
    """Take everything that is due off the agenda, in the order in which it came up."""
    if not state.agenda:
        return ()
    due = tuple(state.agenda.values())
    state.agenda.clear()
    return due


def in_flight(state: RunState) -> Sequence[tuple[str, int]]:
    """Attempts (path, attempt) that have started and not ended."""
    return tuple(state.running.items())


def quiescent(state: RunState) -> bool:
    """Whether the run waits for nothing but times, people and other runs, as far as the core knows."""
    return not (
        state.phase not in {RunPhase.RUNNING, RunPhase.ENDING}
        or state.parked
        or state.agenda
        or state.running
        or state.slots
        or state.finishing
    )


def next_due(state: RunState) -> float | None:
    """When the earliest timer of the run is due."""
    return min(state.timers.values(), default=None)


# --- steps --------------------------------------------------------------------------------------------


def _condition_answered(state: RunState, event: e.ConditionEvaluated | e.ConditionFailed) -> None:
    step = state.steps[event.path]
    state.agenda.pop(("condition", event.path), None)
    if isinstance(event, e.ConditionFailed):
        give_up(state, step, event.failure)
    elif event.passed:
        make_ready(state, step)
    else:
        step.status = StepStatus.PENDING
        record(state, e.StepSkipped(path=event.path, reason="condition", at=state.now))


def _step_decided(state: RunState, event: e.StepFailed | e.StepRecovered | e.StepSkipped) -> None:
    step = state.steps[event.path]
    state.agenda.pop(("decision", event.path), None)
    match event:
        case e.StepFailed():
            step.failure = event.failure
            if step.scope.first_failure is None:
                step.scope.first_failure = step.cause or (event.path, event.failure)
            end_step(state, step, StepStatus.FAILED)
        case e.StepRecovered():
            step.recovered = True
            end_step(state, step, StepStatus.COMPLETED)
        case e.StepSkipped():
            step.skip_reason = event.reason
            end_step(state, step, StepStatus.SKIPPED)
        case _:
            assert_never(event)


# --- the run ------------------------------------------------------------------------------------------


def _run_started(state: RunState, event: e.RunStarted) -> None:
    state.phase = RunPhase.RUNNING
    timeout = event.timeout if event.timeout is not None else state.plan.timeout
    if timeout is not None:
        start_timer(state, ("run-timer", ""), c.RunTimer(), event.at + timeout)
    begin(state, state.root)


def _rested(state: RunState, event: e.RunPaused | e.RunResumed | e.RunParked | e.RunWoken) -> None:
    match event:
        case e.RunPaused():
            state.paused = True
            state.pause_reason = event.reason
            take_back_starts(state)
        case e.RunResumed():
            state.paused = False
            state.pause_reason = None
        case e.RunParked():
            state.parked = True
        case e.RunWoken():
            state.parked = False
        case _:
            assert_never(event)


def _stage_ended(state: RunState) -> None:
    """The last step of the current stage ended: on to the next one, or to the end of the run."""
    failure = state.root.first_failure
    if state.outcome is None:
        state.outcome = "completed" if failure is None else "failed"
        state.failure = failure
    elif state.outcome == "completed" and failure is not None:
        state.outcome, state.failure = "failed", failure
    if state.stage == "main":
        _stop_run_timer(state)
    plan = state.plan
    if state.stage == "main" and plan.on_failure is not None and state.outcome in {"failed", "timed_out"}:
        _begin_stage(state, "on_failure")
    elif state.stage != "finally" and plan.finally_ is not None:
        _begin_stage(state, "finally")
    else:
        _finish(state)


def _begin_stage(state: RunState, stage: Stage) -> None:
    block = state.plan.on_failure if stage == "on_failure" else state.plan.finally_
    if block is not None:
        state.stage = stage
        state.root = open_scope(state, block, prefix=stage)
        begin(state, state.root)


def _finish(state: RunState) -> None:
    state.finishing = True
    outcome = state.outcome or "completed"
    path, failure = state.failure if state.failure is not None and outcome == "failed" else (None, None)
    state.agenda["finish", ""] = c.FinishRun(outcome=outcome, path=path, failure=failure)


def _stop_run_timer(state: RunState) -> None:
    state.timers.pop(("run-timer", ""), None)
    state.agenda.pop(("run-timer", ""), None)


def _end_early(state: RunState, outcome: c.Outcome) -> None:
    """Abort what is under way; `on_failure` (after a time-out) and `finally` follow."""
    submitted = state.phase is RunPhase.SUBMITTED
    state.phase = RunPhase.ENDING
    state.outcome = outcome
    state.paused = False
    state.pause_reason = None
    _stop_run_timer(state)
    if submitted or state.finishing:
        _finish(state)
    else:
        stop_scope(state, state.root)


def _run_ended(state: RunState, event: e.TerminalEvent) -> None:
    match event:
        case e.RunCompleted():
            state.phase = RunPhase.COMPLETED
        case e.RunFailed():
            state.phase = RunPhase.FAILED
        case e.RunCancelled():
            state.phase = RunPhase.CANCELLED
        case e.RunTimedOut():
            state.phase = RunPhase.TIMED_OUT
        case _:
            assert_never(event)
    if not state.finishing or state.root.open_steps:
        for step in state.steps.values():
            if step.status not in ENDED:
                step.status = StepStatus.CANCELLED
    state.ready.clear()
    state.held.clear()
    state.agenda.clear()
    state.timers.clear()
    state.ended_scopes.clear()


# --- the table ----------------------------------------------------------------------------------------


def _submitted(state: RunState, event: e.RunSubmitted) -> None:
    state.phase = RunPhase.SUBMITTED


def _cancelled(state: RunState, event: e.CancelRequested) -> None:
    _end_early(state, "cancelled")


def _timed_out(state: RunState, event: e.RunTimeoutReached) -> None:
    _end_early(state, "timed_out")


def _clock_moved(state: RunState, event: e.ClockMoved) -> None:
    """Timers that run already go by elapsed time; those that are started from here on are due later."""
    for key, due_at in state.timers.items():
        step = state.steps.get(key[1])
        control = None if step is None else step.control
        if key[0] == "timer" and control is not None and control.instant:
            continue
        state.timers[key] = moved = due_at + event.by
        if key[0] == "timer" and step is not None:
            _due_later(step, event.by)
        timer = state.agenda.get(key)
        if isinstance(timer, c.StartTimer):
            state.agenda[key] = replace(timer, due_at=moved)


def _due_later(step: StepState, by: float) -> None:
    if step.retry_at is not None:
        step.retry_at += by
    if step.control is not None and step.control.due_at is not None:
        step.control.due_at += by


def _noticed(state: RunState, event: e.NoticeEmitted) -> None:
    """Nothing changes."""


FOLDS: Final[Mapping[type[e.Event], Callable[[RunState, Any], None]]] = {
    e.RunSubmitted: _submitted,
    e.RunStarted: _run_started,
    e.AttemptStarted: attempts.attempt_started,
    e.StepSucceeded: attempts.attempt_succeeded,
    e.AttemptFailed: attempts.attempt_failed,
    e.AttemptTimedOut: attempts.attempt_timed_out,
    e.AttemptLost: attempts.attempt_lost,
    e.AttemptCancelled: attempts.attempt_cancelled,
    e.AttemptDeferred: attempts.attempt_deferred,
    e.RetryScheduled: attempts.retry_scheduled,
    e.RetryDue: attempts.retry_due,
    e.ConditionEvaluated: _condition_answered,
    e.ConditionFailed: _condition_answered,
    e.StepFailed: _step_decided,
    e.StepRecovered: _step_decided,
    e.StepSkipped: _step_decided,
    e.BlockEntered: control.answered,
    e.BranchChosen: control.answered,
    e.ItemsCounted: control.answered,
    e.LoopChecked: control.answered,
    e.WaitStarted: control.answered,
    e.ApprovalRequested: control.answered,
    e.ChildStarted: control.answered,
    e.EvaluationFailed: control.answered,
    e.BlockCompleted: control.answered,
    e.WaitOver: control.happened,
    e.ApprovalAnswered: control.happened,
    e.ApprovalExpired: control.happened,
    e.ChildLaunched: control.happened,
    e.ChildEnded: control.happened,
    e.BlockTimedOut: control.happened,
    e.NoticeEmitted: _noticed,
    e.RunPaused: _rested,
    e.RunResumed: _rested,
    e.RunParked: _rested,
    e.RunWoken: _rested,
    e.ClockMoved: _clock_moved,
    e.CancelRequested: _cancelled,
    e.RunTimeoutReached: _timed_out,
    e.RunCompleted: _run_ended,
    e.RunFailed: _run_ended,
    e.RunCancelled: _run_ended,
    e.RunTimedOut: _run_ended,
}
"""What each event does to a state it may happen in; a test holds it to the union of all events."""
