"""Why a step that has not ended is where it is: what it waits for, since when, until when.

What is under way within control steps, and what those wait for, is `app.services.block_reasons`'.
"""

from __future__ import annotations

from typing import Any

from app.core.state import ENDED, RunPhase, StepState, StepStatus
from app.services.block_reasons import why_block_open
from app.services.reasons import MOST_NAMED, Because, Seen, error_of, listed, named, with_reason
from app.services.timestamps import rfc3339, rfc3339_or_none

S = StepStatus


def why_open(seen: Seen, step: StepState) -> Because:  # noqa: PLR0911  one answer a status
    """The answer for a step that has not ended."""
    match step.status:
        case S.PENDING:
            return _pending(seen, step)
        case S.EVALUATING:
            told = {"condition": seen.condition(step)}
            summary = "Its condition is being evaluated."
            return Because(reason="evaluating_condition", summary=summary, details=told)
        case S.READY:
            return _ready(seen, step)
        case S.STARTING:
            summary = "It may start, and waits for one of the attempts that the service may have in flight."
            details: dict[str, Any] = {"next_attempt": step.attempt + 1}
            return Because(reason="process_slots", summary=summary, details=details)
        case S.RUNNING:
            return _running(seen, step)
        case S.FAILING:
            details = {"error": error_of(step.failure, step.path)}
            summary = "It failed; what follows is being decided."
            return Because(reason="deciding", summary=summary, details=details)
        case S.RETRYING:
            return _retrying(seen, step)
        case _:
            return why_block_open(seen, step)


# --- before it begins ---------------------------------------------------------------------------------


def _pending(seen: Seen, step: StepState) -> Because:
    if seen.state.phase in (None, RunPhase.SUBMITTED):
        return run_pending(seen)
    waited_for = [other for other in seen.dependencies(step) if other.status not in ENDED]
    if not waited_for:
        return Because(
            reason="deciding", summary="Its dependencies have ended; whether it runs is being decided."
        )
    paths = [other.path for other in waited_for]
    return Because(
        reason="dependencies",
        summary=f"It waits for {listed(paths)} to end.",
        details={"waits_for": named(waited_for), "dependencies": len(step.node.depends_on)},
        causes=paths[:MOST_NAMED],
    )


def run_pending(seen: Seen) -> Because:
    """The run itself has not begun."""
    rule = seen.workflow.concurrency
    details: dict[str, Any] = {"priority": seen.row.priority}
    if seen.state.paused:
        return _paused(seen)
    summary = "The run was accepted and waits for its turn."
    if rule is not None:
        details["concurrency"] = {"limit": rule.limit, "key": seen.row.concurrency_key}
        summary = (
            f"The run was accepted and waits for its turn; at most {rule.limit} runs of its workflow with "
            "its concurrency key are under way at once."
        )
    return Because(reason="run_pending", summary=summary, details=details)


def _paused(seen: Seen) -> Because:
    reason, detail = seen.state.pause_reason, seen.history.pause_detail
    details = {"pause_reason": reason}
    if detail is not None:
        details["pause_detail"] = detail
        summary = (
            f"It may start, but the run is paused for its budget: {detail.rstrip('.')}. To go on, resume it "
            f'with a higher one: POST /v1/runs/{seen.row.id}/resume with {{"budget": {{…}}}}.'
        )
    else:
        summary = with_reason("It may start, but the run is paused", reason)
    return Because(reason="run_paused", summary=summary, details=details)


def _ready(seen: Seen, step: StepState) -> Because:
    state, scope = seen.state, step.scope
    if state.paused:
        return _paused(seen)
    if scope.limit is not None and not step.admitted:
        inside = [state.steps[scope.path_of(node.id)] for node in scope.block.nodes]
        active = [other for other in inside if other.admitted and other.status not in ENDED]
        ahead = scope.queue.index(step.path) if step.path in scope.queue else 0
        return Because(
            reason="turn_in_block",
            summary=f"It waits for its turn: {scope.owner!r} has at most {scope.limit} steps under way.",
            details={"limit": scope.limit, "under_way": named(active), "ahead": ahead},
            causes=[other.path for other in active[:MOST_NAMED]],
        )
    under_way = [state.steps[path] for path in list(state.running)[:MOST_NAMED]]
    limit = state.plan.max_concurrency
    return Because(
        reason="run_slots",
        summary=f"It may start, and waits for a slot: the run has at most {limit} attempts in flight.",
        details={"limit": limit, "in_flight": state.slots, "under_way": named(under_way)},
        causes=[other.path for other in under_way],
    )


# --- under way ----------------------------------------------------------------------------------------


def _running(seen: Seen, step: StepState) -> Because:
    attempts = seen.record(step).attempts
    since = attempts[-1].started_at if attempts else step.first_started_at
    times_out = seen.state.timers.get(("timer", step.path))
    details = {
        "attempt": step.attempt,
        "since": rfc3339_or_none(since),
        "times_out_at": rfc3339_or_none(times_out),
        "tries_left": max(0, step.node.retry.max_attempts - step.tries),
        "lost_attempts": step.lost,
    }
    summary = f"Attempt {step.attempt} has been under way since {rfc3339_or_none(since)}"
    summary += f"; it times out at {rfc3339(times_out)}." if times_out is not None else "."
    return Because(reason="running", summary=summary, details=details)


def _retrying(seen: Seen, step: StepState) -> Because:
    policy, failure = step.node.retry, step.failure
    due = rfc3339_or_none(step.retry_at)
    details = {
        "last_error": error_of(failure, step.path),
        "due_at": due,
        "next_attempt": step.attempt + 1,
        "tries": step.tries,
        "tries_left": max(0, policy.max_attempts - step.tries),
    }
    what = "It failed" if failure is None else f"It failed with {failure.error_class!r} ({failure.message})"
    left = f"{details['tries_left']} of {policy.max_attempts} tries are left"
    summary = f"{what} and is tried again at {due}; {left}."
    return Because(reason="retrying", summary=summary, details=details)
