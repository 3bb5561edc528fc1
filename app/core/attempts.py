"""What becomes of attempts: their outcomes, retries, timeouts, losses."""

from __future__ import annotations

from app.core import commands as c
from app.core import events as e
from app.core.readiness import (
    end_step,
    give_up,
    make_ready,
    record,
    start_timer,
    stop_timer,
)
from app.core.retry import next_delay
from app.core.state import RunState, StepState, StepStatus

TIMEOUT_CLASS = "timeout"
UNKNOWN_CLASS = "outcome_unknown"
MAX_LOST = 50
"""A step that was in flight at this many crashes is taken for their cause."""


def attempt_started(state: RunState, event: e.AttemptStarted) -> None:
    """A try is in flight."""
    step = state.steps[event.path]
    if step.status is StepStatus.READY:
        # A journal from a time when more attempts were allowed at once: what happened, happened.
        state.slots += 1
    state.agenda.pop(("start", event.path), None)
    step.status = StepStatus.RUNNING
    step.attempt = event.attempt
    step.tries += 1
    if step.first_started_at is None:
        step.first_started_at = event.at
    state.running[event.path] = event.attempt
    timeout = step.node.timeout
    if timeout is not None:
        timer = c.AttemptTimer(path=event.path, attempt=event.attempt)
        start_timer(state, ("timer", event.path), timer, event.at + timeout)


def leave_flight(state: RunState, path: str) -> StepState:
    """An attempt ended, however: its slot, its timer and a pending abort are void."""
    del state.running[path]
    state.slots -= 1
    stop_timer(state, ("timer", path))
    state.agenda.pop(("cancel", path), None)
    return state.steps[path]


def attempt_succeeded(state: RunState, event: e.StepSucceeded) -> None:
    """The step is completed, even where its block is being stopped: what happened, happened."""
    end_step(state, leave_flight(state, event.path), StepStatus.COMPLETED)


def attempt_cancelled(state: RunState, event: e.AttemptCancelled) -> None:
    """The try was aborted, for its block is being stopped."""
    end_step(state, leave_flight(state, event.path), StepStatus.CANCELLED)


def attempt_failed(state: RunState, event: e.AttemptFailed) -> None:
    """Try again, or give up."""
    _failed(state, event.path, event.failure)


def _failed(state: RunState, path: str, failure: e.Failure) -> None:
    step = leave_flight(state, path)
    if step.scope.stopping:
        end_step(state, step, StepStatus.CANCELLED)
        return
    step.status = StepStatus.FAILING
    step.failure = failure
    elapsed = state.now - (step.first_started_at if step.first_started_at is not None else state.now)
    policy = step.node.retry
    delay = next_delay(policy, failure, run_id=state.run_id, path=path, tries=step.tries, elapsed=elapsed)
    if delay is None:
        give_up(state, step, failure)
    else:
        due_at = state.now + delay
        record(state, e.RetryScheduled(path=path, attempt=step.attempt + 1, due_at=due_at, at=state.now))


def attempt_timed_out(state: RunState, event: e.AttemptTimedOut) -> None:
    """Abort the try; it failed for lack of time."""
    timeout = state.steps[event.path].node.timeout
    message = f"the attempt took longer than {timeout:g} s; raise timeout_seconds of {event.path!r}"
    _failed(state, event.path, e.Failure(error_class=TIMEOUT_CLASS, message=message, temporary=True))
    state.agenda["cancel", event.path] = c.CancelAttempt(path=event.path, attempt=event.attempt)


def attempt_lost(state: RunState, event: e.AttemptLost) -> None:
    """Lost attempts do not count as tries; a step that must not repeat fails instead of running twice."""
    step = leave_flight(state, event.path)
    step.tries -= 1
    step.lost += 1
    if step.scope.stopping:
        end_step(state, step, StepStatus.CANCELLED)
    elif not step.node.repeatable:
        message = (
            f"the process died while {event.path!r} was in flight, and it must not run twice; "
            "check its effect, or set on_unknown: retry"
        )
        give_up(state, step, e.Failure(error_class=UNKNOWN_CLASS, message=message))
    elif step.lost >= MAX_LOST:
        message = f"{event.path!r} was in flight at {MAX_LOST} crashes in this run and is not tried again"
        give_up(state, step, e.Failure(error_class=UNKNOWN_CLASS, message=message))
    else:
        make_ready(state, step)


def attempt_deferred(state: RunState, event: e.AttemptDeferred) -> None:
    """The try took no effect; the step waits for its next chance."""
    step = leave_flight(state, event.path)
    step.tries -= 1
    if step.scope.stopping:
        end_step(state, step, StepStatus.CANCELLED)
    else:
        make_ready(state, step)


def retry_scheduled(state: RunState, event: e.RetryScheduled) -> None:
    """The step waits for its next try."""
    step = state.steps[event.path]
    state.agenda.pop(("decision", event.path), None)
    step.status = StepStatus.RETRYING
    step.retry_at = event.due_at
    timer = c.RetryTimer(path=event.path, attempt=event.attempt)
    start_timer(state, ("timer", event.path), timer, event.due_at)


def retry_due(state: RunState, event: e.RetryDue) -> None:
    """The next try may start."""
    step = state.steps[event.path]
    stop_timer(state, ("timer", event.path))
    step.retry_at = None
    make_ready(state, step)
