"""The scheduler: facts in, commands out.

    evolve(state, event) folds a fact in; an impossible one raises and changes nothing
    decide(state)        hands over what is to be done now, each command once

Everything that is decided about a run is decided here: readiness, skips, failure propagation, retries,
timeouts, cancellation, the end. The same events give the same state and the same commands, always.
After a crash the journal is folded again: answered commands leave the agenda when their event comes, so
what `decide` then hands over is what nobody has answered.

What does not belong here: templates, outputs, clocks, tasks, storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from app.core import commands as c
from app.core import events as e
from app.core.plan import Node
from app.core.retry import next_delay
from app.core.state import ENDED, RunPhase, RunState, StepState, StepStatus
from app.core.transitions import check

TIMEOUT_CLASS = "timeout"
UNKNOWN_CLASS = "outcome_unknown"
MAX_LOST = 50
"""A step that was in flight at this many crashes is taken for their cause."""


def evolve(state: RunState, event: e.Event) -> RunState:  # noqa: C901, PLR0912  one case an event
    """Fold one event in. Raises `InvalidTransition` and changes nothing if it cannot have happened."""
    check(state, event)
    state.now = event.at
    match event:
        case e.AttemptStarted():
            _attempt_started(state, event)
        case e.StepSucceeded():
            step = _leave_flight(state, event.path)
            _end_step(state, event.path, step, StepStatus.COMPLETED)
        case e.AttemptFailed():
            _attempt_failed(state, event.path, event.failure)
        case e.AttemptTimedOut():
            _attempt_timed_out(state, event)
        case e.AttemptLost():
            _attempt_lost(state, event)
        case e.AttemptCancelled():
            step = _leave_flight(state, event.path)
            _end_step(state, event.path, step, StepStatus.CANCELLED)
        case e.ConditionEvaluated() | e.ConditionFailed():
            _condition_answered(state, event)
        case e.RetryScheduled() | e.RetryDue():
            _retry(state, event)
        case e.StepFailed() | e.StepRecovered() | e.StepSkipped():
            _step_decided(state, event)
        case e.CancelRequested() | e.RunTimeoutReached():
            _end_early(state, "cancelled" if isinstance(event, e.CancelRequested) else "timed_out")
        case e.RunSubmitted():
            state.phase = RunPhase.SUBMITTED
        case e.RunStarted():
            _run_started(state, event)
        case e.RunCompleted() | e.RunFailed() | e.RunCancelled() | e.RunTimedOut():
            _run_ended(state, event)
        case e.NoticeEmitted():
            pass
        case _:
            assert_never(event)
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


# --- the run ------------------------------------------------------------------------------------------


def _run_started(state: RunState, event: e.RunStarted) -> None:
    state.phase = RunPhase.RUNNING
    timeout = event.timeout if event.timeout is not None else state.plan.timeout
    if timeout is not None:
        _start_timer(state, ("run-timer", ""), c.RunTimer(), event.at + timeout)
    for node in state.plan.nodes:
        if not node.depends_on:
            _dependencies_ended(state, node)
    _dispatch(state)
    _finish_when_done(state)


def _end_early(state: RunState, outcome: c.Outcome) -> None:
    state.phase = RunPhase.ENDING
    state.ending = outcome
    state.agenda.clear()
    state.ready.clear()
    state.slots = len(state.running)
    for path, attempt in state.running.items():
        state.agenda["cancel", path] = c.CancelAttempt(path=path, attempt=attempt)
    _finish_when_done(state)


def _finish_when_done(state: RunState) -> None:
    key = ("finish", "")
    if state.phase is RunPhase.ENDING:
        if not state.running and state.ending is not None:
            state.agenda[key] = c.FinishRun(outcome=state.ending)
    elif state.phase is RunPhase.RUNNING and not state.open_steps:
        if state.first_failure is None:
            state.agenda[key] = c.FinishRun(outcome="completed")
        else:
            path, failure = state.first_failure
            state.agenda[key] = c.FinishRun(outcome="failed", path=path, failure=failure)


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
    if state.open_steps:
        for step in state.steps.values():
            if step.status not in ENDED:
                step.status = StepStatus.CANCELLED
        state.open_steps = 0
    state.ready.clear()
    state.agenda.clear()


# --- readiness, skips, failure propagation ------------------------------------------------------------


def _end_step(state: RunState, path: str, step: StepState, status: StepStatus) -> None:
    """A step ended: tell its dependents, hand its slot on, end the run if it was the last."""
    step.status = status
    state.open_steps -= 1
    if state.phase is RunPhase.RUNNING:
        blocks = status is StepStatus.FAILED or step.skip_reason == "upstream_failed"
        for dependent in state.plan.dependents[path]:
            other = state.steps[dependent]
            other.waiting_for -= 1
            other.completed_dependencies += status is StepStatus.COMPLETED
            other.failed_dependencies += blocks
            if not other.waiting_for:
                _dependencies_ended(state, state.plan.by_id[dependent])
        _dispatch(state)
    _finish_when_done(state)


def _dependencies_ended(state: RunState, node: Node) -> None:
    step = state.steps[node.id]
    reason = _skip_reason(node, step)
    if reason is not None:
        _record(state, e.StepSkipped(path=node.id, reason=reason, at=state.now))
    elif node.conditional:
        step.status = StepStatus.EVALUATING
        state.agenda["condition", node.id] = c.EvaluateCondition(path=node.id)
    else:
        _make_ready(state, node.id, step)


def _skip_reason(node: Node, step: StepState) -> e.SkipReason | None:
    if node.run_on == "always":
        return None
    if node.run_on == "failure":
        return None if step.failed_dependencies else "run_on"
    if step.failed_dependencies:
        return "upstream_failed"
    if node.depends_on and not step.completed_dependencies:
        return "upstream_skipped"
    return None


def _condition_answered(state: RunState, event: e.ConditionEvaluated | e.ConditionFailed) -> None:
    step = state.steps[event.path]
    state.agenda.pop(("condition", event.path), None)
    if isinstance(event, e.ConditionFailed):
        step.status = StepStatus.FAILING
        _give_up(state, event.path, event.failure)
    elif event.passed:
        _make_ready(state, event.path, step)
        _dispatch(state)
    else:
        _record(state, e.StepSkipped(path=event.path, reason="condition", at=state.now))


def _make_ready(state: RunState, path: str, step: StepState) -> None:
    step.status = StepStatus.READY
    state.ready.append(path)


def _dispatch(state: RunState) -> None:
    """Give free slots to ready steps, first come, first served."""
    while state.ready and state.slots < state.plan.max_concurrency:
        path = state.ready.popleft()
        step = state.steps[path]
        step.status = StepStatus.STARTING
        state.slots += 1
        state.agenda["start", path] = c.StartAttempt(path=path, attempt=step.attempt + 1)


# --- attempts -----------------------------------------------------------------------------------------


def _attempt_started(state: RunState, event: e.AttemptStarted) -> None:
    step = state.steps[event.path]
    if step.status is StepStatus.READY:
        # A journal from a time when more attempts were allowed at once: what happened, happened.
        state.ready.remove(event.path)
        state.slots += 1
    state.agenda.pop(("start", event.path), None)
    step.status = StepStatus.RUNNING
    step.attempt = event.attempt
    step.tries += 1
    if step.first_started_at is None:
        step.first_started_at = event.at
    state.running[event.path] = event.attempt
    timeout = state.plan.by_id[event.path].timeout
    if timeout is not None:
        timer = c.AttemptTimer(path=event.path, attempt=event.attempt)
        _start_timer(state, ("timer", event.path), timer, event.at + timeout)


def _leave_flight(state: RunState, path: str) -> StepState:
    """An attempt ended, however: its slot, its timer and a pending abort are void."""
    del state.running[path]
    state.slots -= 1
    state.agenda.pop(("timer", path), None)
    state.agenda.pop(("cancel", path), None)
    return state.steps[path]


def _attempt_failed(state: RunState, path: str, failure: e.Failure) -> None:
    step = _leave_flight(state, path)
    if state.phase is RunPhase.ENDING:
        _end_step(state, path, step, StepStatus.CANCELLED)
        return
    step.status = StepStatus.FAILING
    step.failure = failure
    elapsed = state.now - (step.first_started_at if step.first_started_at is not None else state.now)
    policy = state.plan.by_id[path].retry
    delay = next_delay(policy, failure, run_id=state.run_id, path=path, tries=step.tries, elapsed=elapsed)
    if delay is None:
        _give_up(state, path, failure)
    else:
        due_at = state.now + delay
        _record(state, e.RetryScheduled(path=path, attempt=step.attempt + 1, due_at=due_at, at=state.now))
    _dispatch(state)


def _attempt_timed_out(state: RunState, event: e.AttemptTimedOut) -> None:
    timeout = state.plan.by_id[event.path].timeout
    message = f"the attempt took longer than {timeout:g} s; raise timeout_seconds of {event.path!r}"
    _attempt_failed(state, event.path, e.Failure(error_class=TIMEOUT_CLASS, message=message, temporary=True))
    state.agenda["cancel", event.path] = c.CancelAttempt(path=event.path, attempt=event.attempt)


def _attempt_lost(state: RunState, event: e.AttemptLost) -> None:
    """Lost attempts do not count as tries; a step that must not repeat fails instead of running twice."""
    step = _leave_flight(state, event.path)
    step.tries -= 1
    if state.phase is RunPhase.ENDING:
        _end_step(state, event.path, step, StepStatus.CANCELLED)
    elif not state.plan.by_id[event.path].repeatable:
        message = (
            f"the process died while {event.path!r} was in flight, and it must not run twice; "
            "check its effect, or set on_unknown: retry"
        )
        _fail(state, event.path, e.Failure(error_class=UNKNOWN_CLASS, message=message))
    elif step.attempt - step.tries >= MAX_LOST:
        message = f"{event.path!r} was in flight at {MAX_LOST} crashes in this run and is not tried again"
        _fail(state, event.path, e.Failure(error_class=UNKNOWN_CLASS, message=message))
    else:
        _make_ready(state, event.path, step)
        _dispatch(state)


def _fail(state: RunState, path: str, failure: e.Failure) -> None:
    state.steps[path].status = StepStatus.FAILING
    _give_up(state, path, failure)
    _dispatch(state)


def _give_up(state: RunState, path: str, failure: e.Failure) -> None:
    """No further try: the step fails, or its `on_error` value takes over."""
    state.steps[path].failure = failure
    if state.plan.by_id[path].continues:
        state.agenda["decision", path] = c.RecoverStep(path=path, failure=failure)
    else:
        _record(state, e.StepFailed(path=path, failure=failure, at=state.now))


def _retry(state: RunState, event: e.RetryScheduled | e.RetryDue) -> None:
    step = state.steps[event.path]
    if isinstance(event, e.RetryScheduled):
        state.agenda.pop(("decision", event.path), None)
        step.status = StepStatus.RETRYING
        step.retry_at = event.due_at
        timer = c.RetryTimer(path=event.path, attempt=event.attempt)
        _start_timer(state, ("timer", event.path), timer, event.due_at)
    else:
        state.agenda.pop(("timer", event.path), None)
        step.retry_at = None
        _make_ready(state, event.path, step)
        _dispatch(state)


def _step_decided(state: RunState, event: e.StepFailed | e.StepRecovered | e.StepSkipped) -> None:
    step = state.steps[event.path]
    state.agenda.pop(("decision", event.path), None)
    match event:
        case e.StepFailed():
            step.failure = event.failure
            if state.first_failure is None:
                state.first_failure = (event.path, event.failure)
            _end_step(state, event.path, step, StepStatus.FAILED)
        case e.StepRecovered():
            step.recovered = True
            _end_step(state, event.path, step, StepStatus.COMPLETED)
        case e.StepSkipped():
            step.skip_reason = event.reason
            _end_step(state, event.path, step, StepStatus.SKIPPED)
        case _:
            assert_never(event)


# --- the agenda ---------------------------------------------------------------------------------------


def _record(state: RunState, event: e.StepSkipped | e.StepFailed | e.RetryScheduled) -> None:
    state.agenda["decision", event.path] = c.Record(event=event)


def _start_timer(state: RunState, key: tuple[str, str], timer: c.Timer, due_at: float) -> None:
    state.agenda[key] = c.StartTimer(timer=timer, due_at=due_at)
