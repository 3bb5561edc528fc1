"""Events out of thin air: what a defective engine, late news or a mixed-up journal might tell."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

from app.core import events as e
from app.core.state import RunState

FAILURE: Final = e.Failure(error_class="timeout", message="rumour", temporary=True)

OF_RUNS: Final[tuple[Callable[[float], e.Event], ...]] = (
    lambda at: e.RunSubmitted(at=at),
    lambda at: e.RunStarted(at=at, timeout=1.0),
    lambda at: e.RunPaused(reason="rumour", at=at),
    lambda at: e.RunResumed(at=at),
    lambda at: e.RunWoken(at=at),
    lambda at: e.CancelRequested(reason="rumour", at=at),
    lambda at: e.RunTimeoutReached(at=at),
    lambda at: e.RunCompleted(at=at),
    lambda at: e.RunCancelled(at=at),
    lambda at: e.RunTimedOut(at=at),
)
OF_ATTEMPTS: Final[Mapping[str, Callable[[str, int, float], e.Event]]] = {
    "started": lambda path, attempt, at: e.AttemptStarted(path=path, attempt=attempt, at=at),
    "succeeded": lambda path, attempt, at: e.StepSucceeded(path=path, attempt=attempt, at=at),
    "failed": lambda path, attempt, at: e.AttemptFailed(path=path, attempt=attempt, failure=FAILURE, at=at),
    "timed out": lambda path, attempt, at: e.AttemptTimedOut(path=path, attempt=attempt, at=at),
    "lost": lambda path, attempt, at: e.AttemptLost(path=path, attempt=attempt, at=at),
    "cancelled": lambda path, attempt, at: e.AttemptCancelled(path=path, attempt=attempt, at=at),
    "deferred": lambda path, attempt, at: e.AttemptDeferred(path=path, attempt=attempt, at=at),
    "to be retried": lambda path, attempt, at: e.RetryScheduled(
        path=path, attempt=attempt, due_at=at + 1, at=at
    ),
    "retry due": lambda path, attempt, at: e.RetryDue(path=path, attempt=attempt, at=at),
    "notice": lambda path, attempt, at: e.NoticeEmitted(path=path, attempt=attempt, at=at),
}
OF_STEPS: Final[Mapping[str, Callable[[str, float], e.Event]]] = {
    "gate open": lambda path, at: e.ConditionEvaluated(path=path, passed=True, at=at),
    "gate shut": lambda path, at: e.ConditionEvaluated(path=path, passed=False, at=at),
    "gate broken": lambda path, at: e.ConditionFailed(path=path, failure=FAILURE, at=at),
    "failed": lambda path, at: e.StepFailed(path=path, failure=FAILURE, at=at),
    "recovered": lambda path, at: e.StepRecovered(path=path, failure=FAILURE, at=at),
    "skipped": lambda path, at: e.StepSkipped(path=path, reason="condition", at=at),
    "entered": lambda path, at: e.BlockEntered(path=path, at=at),
    "default": lambda path, at: e.BranchChosen(path=path, case=None, at=at),
    "case": lambda path, at: e.BranchChosen(path=path, case="x", at=at),
    "no such case": lambda path, at: e.BranchChosen(path=path, case="nowhere", at=at),
    "counted": lambda path, at: e.ItemsCounted(path=path, count=2, at=at),
    "loop done": lambda path, at: e.LoopChecked(path=path, iteration=0, done=True, at=at),
    "loop on": lambda path, at: e.LoopChecked(path=path, iteration=0, done=False, at=at),
    "waits": lambda path, at: e.WaitStarted(path=path, due_at=at + 1, at=at),
    "wait over": lambda path, at: e.WaitOver(path=path, at=at),
    "asked": lambda path, at: e.ApprovalRequested(path=path, approval_id="1", at=at),
    "answered": lambda path, at: e.ApprovalAnswered(path=path, action="approve", by=None, at=at),
    "expired": lambda path, at: e.ApprovalExpired(path=path, at=at),
    "child started": lambda path, at: e.ChildStarted(path=path, run_id=f"child:{path}", at=at),
    "child launched": lambda path, at: e.ChildLaunched(path=path, at=at),
    "child ended": lambda path, at: e.ChildEnded(path=path, failure=None, at=at),
    "child failed": lambda path, at: e.ChildEnded(path=path, failure=FAILURE, at=at),
    "not evaluated": lambda path, at: e.EvaluationFailed(path=path, failure=FAILURE, at=at),
    "completed": lambda path, at: e.BlockCompleted(path=path, at=at),
    "timed out": lambda path, at: e.BlockTimedOut(path=path, at=at),
}


def rumour(state: RunState, rng: random.Random, now: float) -> e.Event:
    """Any event at all, likely or not, about something that exists more often than not."""
    if rng.random() < 0.1 or not state.steps:
        return rng.choice(OF_RUNS)(now)
    path = rng.choice([*state.steps, "nowhere"])
    step = state.steps.get(path)
    if rng.random() < 0.4:
        attempt = (0 if step is None else step.attempt) + rng.choice([0, 0, 1, 2])
        return rng.choice(tuple(OF_ATTEMPTS.values()))(path, attempt, now)
    return rng.choice(tuple(OF_STEPS.values()))(path, now)
