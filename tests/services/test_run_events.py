"""Each journal row becomes one event or none, by itself."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from app.core import events as e
from app.engines.codec import encode
from app.engines.engine import Delta
from app.services.run_events import EVENT_TYPES, event_of_delta, event_of_row

FAILURE = e.Failure(error_class="rate_limit", message="slow down", temporary=True)
ERROR = {"error_class": "rate_limit", "message": "slow down", "retryable": True, "path": "a"}
AT = 1769860800.25


def completed(outputs: dict[str, Any]) -> dict[str, Any]:
    """What is told of a control step that completed."""
    return {"outputs": outputs, "usage": None, "recovered": False}


ROWS: list[tuple[e.Event, dict[str, Any] | None, str | None, dict[str, Any]]] = [
    (e.RunSubmitted(at=AT), {"inputs": {}}, None, {}),
    (e.RunStarted(at=AT), None, "run.started", {}),
    (e.ConditionEvaluated(path="a", passed=True, at=AT), None, None, {}),
    (e.ConditionFailed(path="a", failure=FAILURE, at=AT), None, None, {}),
    (e.AttemptStarted(path="a", attempt=2, at=AT), None, "step.started", {}),
    (
        e.StepSucceeded(path="a", attempt=2, at=AT),
        {"outputs": {"text": "hi"}, "billing": {"provider": "p"}},
        "step.completed",
        {"outputs": {"text": "hi"}, "usage": {"provider": "p"}, "recovered": False},
    ),
    (
        e.AttemptFailed(path="a", attempt=2, failure=FAILURE, at=AT),
        None,
        "step.attempt_failed",
        {"outcome": "failed", "error": ERROR},
    ),
    (
        e.AttemptTimedOut(path="a", attempt=2, at=AT),
        None,
        "step.attempt_failed",
        {
            "outcome": "timed_out",
            "error": {
                "error_class": "timeout",
                "message": "the attempt took too long",
                "retryable": True,
                "path": "a",
            },
        },
    ),
    (
        e.AttemptLost(path="a", attempt=2, at=AT),
        None,
        "step.attempt_failed",
        {
            "outcome": "lost",
            "error": {
                "error_class": "outcome_unknown",
                "message": "the process died while the attempt was in flight",
                "retryable": False,
                "path": "a",
            },
        },
    ),
    (e.AttemptCancelled(path="a", attempt=2, at=AT), None, None, {}),
    (
        e.RetryScheduled(path="a", attempt=3, due_at=AT + 1.5, at=AT),
        None,
        "step.retrying",
        {"due_at": "2026-01-31T12:00:01.750000Z", "delay_seconds": 1.5},
    ),
    (e.RetryDue(path="a", attempt=3, at=AT), None, None, {}),
    (e.StepFailed(path="a", failure=FAILURE, at=AT), None, "step.failed", {"error": ERROR}),
    (
        e.StepRecovered(path="a", failure=FAILURE, at=AT),
        {"outputs": {"text": "-"}},
        "step.completed",
        {"outputs": {"text": "-"}, "recovered": True, "error": ERROR},
    ),
    (e.StepSkipped(path="a", reason="condition", at=AT), None, "step.skipped", {"reason": "condition"}),
    (e.AttemptDeferred(path="a", attempt=2, at=AT), None, None, {}),
    (e.BlockEntered(path="a", at=AT), None, "step.started", {}),
    (e.BranchChosen(path="a", case="yes", at=AT), None, "step.started", {"case": "yes"}),
    (e.ItemsCounted(path="a", count=2, at=AT), {"items": [1, 2]}, "step.started", {"items": 2}),
    (e.LoopChecked(path="a", iteration=0, done=False, at=AT), None, None, {}),
    (
        e.WaitStarted(path="a", due_at=AT + 1.5, at=AT),
        None,
        "step.started",
        {"until": "2026-01-31T12:00:01.750000Z"},
    ),
    (e.WaitOver(path="a", at=AT), {"outputs": {}}, "step.completed", completed({})),
    (
        e.ApprovalRequested(path="a", approval_id="p", at=AT),
        {"message": "Send it?", "form": None},
        "step.started",
        {"approval_id": "p", "message": "Send it?"},
    ),
    (
        e.ApprovalAnswered(path="a", action="approve", by="ann", at=AT),
        {"outputs": {"action": "approve"}},
        "step.completed",
        completed({"action": "approve"}),
    ),
    (
        e.ApprovalExpired(path="a", at=AT),
        {"outputs": {"action": "reject"}},
        "step.completed",
        completed({"action": "reject"}),
    ),
    (
        e.ChildStarted(path="a", run_id="c", at=AT),
        {"workflow": "other", "inputs": {}},
        "step.started",
        {"run_id": "c", "workflow": "other"},
    ),
    (
        e.ChildLaunched(path="a", at=AT),
        {"outputs": {"run_id": "c"}},
        "step.completed",
        completed({"run_id": "c"}),
    ),
    (
        e.ChildEnded(path="a", failure=None, at=AT),
        {"outputs": {"run_id": "c"}},
        "step.completed",
        completed({"run_id": "c"}),
    ),
    (e.EvaluationFailed(path="a", failure=FAILURE, at=AT), None, None, {}),
    (e.BlockCompleted(path="a", at=AT), {"outputs": {"x": 1}}, "step.completed", completed({"x": 1})),
    (e.BlockTimedOut(path="a", at=AT), None, None, {}),
    (e.NoticeEmitted(path="a", attempt=1, at=AT), {"action": "log"}, "step.notice", {"action": "log"}),
    (e.RunPaused(reason="lunch", at=AT), None, "run.paused", {"reason": "lunch"}),
    (e.RunResumed(at=AT), None, "run.resumed", {}),
    (e.RunParked(wake_at=AT, at=AT), None, "run.waiting", {"until": "2026-01-31T12:00:00.250000Z"}),
    (e.RunWoken(at=AT), None, "run.resumed", {}),
    (e.ClockMoved(by=60.0, at=AT), None, None, {}),
    (e.CancelRequested(reason="r", at=AT), None, None, {}),
    (e.RunTimeoutReached(at=AT), None, None, {}),
    (e.RunCompleted(at=AT), {"outputs": {"x": 1}}, "run.completed", {"outputs": {"x": 1}}),
    (e.RunFailed(path="a", failure=FAILURE, at=AT), None, "run.failed", {"error": ERROR}),
    (e.RunCancelled(at=AT), None, "run.cancelled", {}),
    (
        e.RunTimedOut(at=AT),
        None,
        "run.timed_out",
        {
            "error": {
                "error_class": "timeout",
                "message": "the run took longer than it may; raise its timeout_seconds",
                "retryable": False,
                "path": None,
            }
        },
    ),
]


def test_every_journalled_event_has_a_row_in_this_table() -> None:
    assert [type(row[0]) for row in ROWS] == list(get_args(e.Event))


@pytest.mark.parametrize(
    ("event", "data", "name", "content"), ROWS, ids=[type(row[0]).__name__ for row in ROWS]
)
def test_a_row_becomes_its_event(
    event: e.Event, data: dict[str, Any] | None, name: str | None, content: dict[str, Any]
) -> None:
    seen = event_of_row(encode("r", 7, event, data))
    if name is None:
        assert seen is None
        return
    assert seen is not None
    assert (seen.seq, seen.type, seen.run_id, seen.at, seen.data) == (7, name, "r", AT, content)
    assert seen.type in EVENT_TYPES
    assert seen.path == ("a" if name.startswith("step.") else None)
    assert seen.attempt == getattr(event, "attempt", None)


@pytest.mark.parametrize(
    "event",
    [e.ApprovalExpired(path="a", at=AT), e.ChildEnded(path="a", failure=FAILURE, at=AT)],
    ids=lambda event: type(event).__name__,
)
def test_an_end_that_brings_nothing_is_told_by_what_is_decided_next(event: e.Event) -> None:
    assert event_of_row(encode("r", 7, event)) is None


def test_a_wait_without_an_end_in_sight_tells_none() -> None:
    seen = event_of_row(encode("r", 7, e.RunParked(wake_at=None, at=AT)))
    assert seen is not None
    assert (seen.type, seen.data) == ("run.waiting", {"until": None})


def test_an_event_within_a_block_bears_its_whole_path() -> None:
    seen = event_of_row(encode("r", 7, e.AttemptStarted(path="each[3].route.x", attempt=1, at=AT)))
    assert seen is not None
    assert seen.path == "each[3].route.x"


def test_a_delta_has_no_seq() -> None:
    seen = event_of_delta("r", Delta(path="a", attempt=1, text="hel", at=AT, after=3))
    assert (seen.seq, seen.type, seen.path, seen.data) == (None, "step.delta", "a", {"text": "hel"})
