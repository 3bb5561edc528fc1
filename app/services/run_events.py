"""Journal rows as the events that callers see.

Every row becomes exactly one event or none, by itself: what a reader gets does not depend on where it
began to read. `seq` is the journal's, so it has gaps where a row is nobody's business (a gate that opened,
a delay that is over).

An attempt that did not succeed is `step.attempt_failed`; what was decided about it is the next event of
that step: `step.retrying`, `step.failed`, or `step.completed` with `recovered`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from app.core import events as e
from app.core.attempts import TIMEOUT_CLASS, UNKNOWN_CLASS
from app.engines.codec import decode
from app.engines.engine import Delta
from app.engines.history import RESERVED, out_of_time
from app.ports.runs import JournalRow
from app.services.timestamps import rfc3339, rfc3339_or_none

EventType = Literal[
    "run.started",
    "run.waiting",
    "run.paused",
    "run.resumed",
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.timed_out",
    "step.started",
    "step.delta",
    "step.notice",
    "step.attempt_failed",
    "step.retrying",
    "step.completed",
    "step.failed",
    "step.skipped",
]
EVENT_TYPES: Final[tuple[str, ...]] = get_args(EventType)
TERMINAL_ROWS: Final[frozenset[str]] = frozenset(kind.__name__ for kind in get_args(e.TerminalEvent))
"""Types of the row that ends a journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event. `seq` is None for what is no history (`step.delta`), `at` epoch seconds, `data` JSON."""

    seq: int | None
    type: EventType
    run_id: str
    path: str | None
    attempt: int | None
    at: float
    data: Mapping[str, Any] = field(default_factory=dict)


def failure_data(failure: e.Failure, path: str | None = None) -> Mapping[str, Any]:
    """A failure as callers see it, wherever it appears."""
    return {
        "error_class": failure.error_class,
        "message": failure.message,
        "retryable": failure.temporary,
        "path": path,
    }


def source_data(source: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where outputs come from that no call was made for, as callers see it, wherever it appears."""
    return {
        "run_id": source.get("run_id"),
        "cache": source.get("cache", False),
        "saved": source.get("saved"),
    }


def event_of_row(row: JournalRow) -> RunEvent | None:
    """The event a row stands for, or None."""
    event, data = decode(row)
    seen = _seen(event, data or {})
    if seen is None:
        return None
    kind, content = seen
    is_step = kind.startswith("step.")
    return RunEvent(
        seq=row.seq,
        type=kind,
        run_id=row.run_id,
        path=getattr(event, "path", None) if is_step else None,
        attempt=getattr(event, "attempt", None),
        at=row.at,
        data=content,
    )


def event_of_delta(run_id: str, delta: Delta) -> RunEvent:
    """A streamed piece of an answer."""
    return RunEvent(
        seq=None,
        type="step.delta",
        run_id=run_id,
        path=delta.path,
        attempt=delta.attempt,
        at=delta.at,
        data={"text": delta.text},
    )


def _seen(  # noqa: PLR0911  one answer an event
    event: e.Event, data: Mapping[str, Any]
) -> tuple[EventType, Mapping[str, Any]] | None:
    match event:
        case e.RunStarted():
            return "run.started", {}
        case e.RunCompleted():
            return "run.completed", {"outputs": data.get("outputs")}
        case e.RunFailed(path=path, failure=failure):
            return "run.failed", {"error": failure_data(failure, path)}
        case e.RunCancelled():
            return "run.cancelled", {}
        case e.RunTimedOut():
            return "run.timed_out", {"error": failure_data(out_of_time())}
        case e.RunPaused(reason=reason):
            return "run.paused", {"reason": reason}
        case e.RunParked(wake_at=wake_at):
            return "run.waiting", {"until": rfc3339_or_none(wake_at)}
        case e.RunResumed() | e.RunWoken():
            return "run.resumed", {}
        case _:
            return _seen_step(event, data)


def _seen_step(  # noqa: PLR0911  one answer an event
    event: e.Event, data: Mapping[str, Any]
) -> tuple[EventType, Mapping[str, Any]] | None:
    match event:
        case e.AttemptStarted():
            return "step.started", {}
        case e.StepSucceeded():
            content = {"outputs": data.get("outputs"), "usage": data.get("billing"), "recovered": False}
            if (source := data.get("source")) is not None:
                content["source"] = source_data(source)
            return "step.completed", content
        case (
            e.BlockCompleted()
            | e.WaitOver()
            | e.ApprovalAnswered()
            | e.ApprovalExpired()
            | e.ChildLaunched()
            | e.ChildEnded()
        ) if "outputs" in data:
            return "step.completed", {"outputs": data["outputs"], "usage": None, "recovered": False}
        case e.StepRecovered(path=path, failure=failure):
            error = failure_data(failure, path)
            return "step.completed", {"outputs": data.get("outputs"), "recovered": True, "error": error}
        case e.StepFailed(path=path, failure=failure):
            return "step.failed", {"error": failure_data(failure, path)}
        case e.StepSkipped(reason=reason):
            return "step.skipped", {"reason": reason}
        case _:
            return _seen_entry(event, data) or _seen_attempt(event, data)


def _seen_entry(  # noqa: PLR0911  one answer an event
    event: e.Event, data: Mapping[str, Any]
) -> tuple[EventType, Mapping[str, Any]] | None:
    """A control step began: with what."""
    match event:
        case e.BlockEntered():
            return "step.started", {}
        case e.BranchChosen(case=case):
            return "step.started", {"case": case}
        case e.ItemsCounted(count=count):
            return "step.started", {"items": count}
        case e.WaitStarted(due_at=due_at):
            return "step.started", {"until": rfc3339(due_at)}
        case e.ApprovalRequested(approval_id=approval_id):
            return "step.started", {"approval_id": approval_id, "message": data.get("message")}
        case e.ChildStarted(run_id=run_id):
            return "step.started", {"run_id": run_id, "workflow": data.get("workflow")}
        case _:
            return None


def _seen_attempt(event: e.Event, data: Mapping[str, Any]) -> tuple[EventType, Mapping[str, Any]] | None:
    match event:
        case e.RetryScheduled(due_at=due_at, at=at):
            return "step.retrying", {"due_at": rfc3339(due_at), "delay_seconds": round(due_at - at, 6)}
        case e.AttemptFailed(path=path, failure=failure):
            return "step.attempt_failed", {"outcome": "failed", "error": failure_data(failure, path)}
        case e.AttemptTimedOut(path=path):
            failure = e.Failure(
                error_class=TIMEOUT_CLASS, message="the attempt took too long", temporary=True
            )
            return "step.attempt_failed", {"outcome": "timed_out", "error": failure_data(failure, path)}
        case e.AttemptLost(path=path):
            message = "the process died while the attempt was in flight"
            failure = e.Failure(error_class=UNKNOWN_CLASS, message=message)
            return "step.attempt_failed", {"outcome": "lost", "error": failure_data(failure, path)}
        case e.NoticeEmitted() if RESERVED not in data:
            return "step.notice", data
        case _:
            return None
