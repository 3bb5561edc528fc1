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
    (e.NoticeEmitted(path="a", attempt=1, at=AT), {"action": "log"}, "step.notice", {"action": "log"}),
    (e.CancelRequested(reason="r", at=AT), None, None, {}),
    (e.RunTimeoutReached(at=AT), None, None, {}),
    (e.RunCompleted(at=AT), {"outputs": {"x": 1}}, "run.completed", {"outputs": {"x": 1}}),
    (e.RunFailed(path="a", failure=FAILURE, at=AT), None, "run.failed", {"error": ERROR}),
    (e.RunCancelled(at=AT), None, "run.cancelled", {}),
    (e.RunTimedOut(at=AT), None, "run.timed_out", {}),
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


def test_a_delta_has_no_seq() -> None:
    seen = event_of_delta("r", Delta(path="a", attempt=1, text="hel", at=AT))
    assert (seen.seq, seen.type, seen.path, seen.data) == (None, "step.delta", "a", {"text": "hel"})
