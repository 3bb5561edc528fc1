"""Events that answer commands, as an engine, time, people and other runs may give them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Branch, Child, Map, Wait
from app.core.state import RunState

CANCELLED_CHILD: Final = e.Failure(error_class="cancelled", message="the other run was cancelled")
MANY_STEPS: Final = 300
"""From here on lists are short and loops end soon, so that documents do not explode."""


def answers(  # noqa: C901, PLR0911, PLR0912  one case a command
    command: c.Command, state: RunState, now: float, rng: random.Random
) -> Sequence[e.Event]:
    """Events that answer a command: the usual one, then those of a failure. None for a courtesy."""
    failure = e.Failure(error_class="evaluation", message="scripted")
    match command:
        case c.Record(event=event):
            return [event]
        case c.StartAttempt(path=path, attempt=attempt):
            return [e.AttemptStarted(path=path, attempt=attempt, at=now)]
        case c.EvaluateCondition(path=path):
            return [
                e.ConditionEvaluated(path=path, passed=rng.random() < 0.7, at=now),
                e.ConditionFailed(path=path, failure=failure, at=now),
            ]
        case c.EnterStep(path=path):
            return [_entered(path, state, now, rng), e.EvaluationFailed(path=path, failure=failure, at=now)]
        case c.CheckLoop(path=path, iteration=iteration):
            done = rng.random() < 0.3 or len(state.steps) > MANY_STEPS
            return [
                e.LoopChecked(path=path, iteration=iteration, done=done, at=now),
                e.EvaluationFailed(path=path, failure=failure, at=now),
            ]
        case c.CollectBlock(path=path):
            return [
                e.BlockCompleted(path=path, at=now),
                e.EvaluationFailed(path=path, failure=failure, at=now),
            ]
        case c.RecoverStep(path=path, failure=cause):
            return [
                e.StepRecovered(path=path, failure=cause, at=now),
                e.StepFailed(path=path, failure=failure, at=now),
            ]
        case c.LaunchChild(path=path):
            control = state.steps[path].node.control
            if isinstance(control, Child) and not control.wait:
                return [e.ChildLaunched(path=path, at=now)]
            return [e.ChildEnded(path=path, failure=None, at=now)]
        case c.CancelChild(path=path):
            return [e.ChildEnded(path=path, failure=CANCELLED_CHILD, at=now)]
        case c.CancelAttempt(path=path, attempt=attempt):
            cancelled = e.AttemptCancelled(path=path, attempt=attempt, at=now)
            return [cancelled] if state.running.get(path) == attempt else []
        case c.StartTimer(timer=timer):
            return [_fired(timer, now)]
        case c.FinishRun():
            return _finished(command, now, failure)


def _entered(path: str, state: RunState, now: float, rng: random.Random) -> e.Event:
    control = state.steps[path].node.control
    match control:
        case Branch(cases=cases):
            return e.BranchChosen(path=path, case=rng.choice([None, *cases]), at=now)
        case Map():
            count = rng.choice([0, 1, 2, 3, 5, 12]) if len(state.steps) < MANY_STEPS else 1
            return e.ItemsCounted(path=path, count=count, at=now)
        case Wait():
            return e.WaitStarted(path=path, due_at=now + rng.random() * 2, at=now)
        case Approval():
            return e.ApprovalRequested(path=path, approval_id=f"approval:{path}", at=now)
        case Child():
            return e.ChildStarted(path=path, run_id=f"child:{path}", at=now)
        case _:
            raise AssertionError(f"{path!r} was asked what it begins with")


def _fired(timer: c.Timer, now: float) -> e.Event:
    match timer:
        case c.AttemptTimer(path=path, attempt=attempt):
            return e.AttemptTimedOut(path=path, attempt=attempt, at=now)
        case c.RetryTimer(path=path, attempt=attempt):
            return e.RetryDue(path=path, attempt=attempt, at=now)
        case c.WaitTimer(path=path):
            return e.WaitOver(path=path, at=now)
        case c.ApprovalTimer(path=path):
            return e.ApprovalExpired(path=path, at=now)
        case c.BlockTimer(path=path):
            return e.BlockTimedOut(path=path, at=now)
        case c.RunTimer():
            return e.RunTimeoutReached(at=now)


def _finished(command: c.FinishRun, now: float, failure: e.Failure) -> Sequence[e.Event]:
    match command.outcome:
        case "completed":
            return [e.RunCompleted(at=now), e.RunFailed(path=None, failure=failure, at=now)]
        case "failed":
            assert command.failure is not None
            return [e.RunFailed(path=command.path, failure=command.failure, at=now)]
        case "cancelled":
            return [e.RunCancelled(at=now)]
        case "timed_out":
            return [e.RunTimedOut(at=now)]
