"""The approvals of a run as a list of its own: which are pending, and what became of the others.

Follows the events that are folded and the states they lead to; rows go out with the batch that holds the
events. What does not belong here: the answer itself, which is in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from app.core import events as e
from app.core.state import ENDED, RunState, StepStatus
from app.engines.history import History
from app.engines.identity import RunIdentity
from app.ports.runs import ApprovalRow

APPROVAL_EVENTS: Final[frozenset[type[e.Event]]] = frozenset(
    {e.ApprovalRequested, e.ApprovalAnswered, e.ApprovalExpired}
)


class ApprovalBook:
    """Of one run."""

    def __init__(self, run: RunIdentity, history: History) -> None:
        self._run = run
        self._pending: dict[str, ApprovalRow] = {}
        self._changed: dict[str, ApprovalRow] = {}
        for path, step in history.state.steps.items():
            if step.status is StepStatus.WAITING and step.control is not None and step.control.approval:
                entered = history.steps[path].entered or {}
                started = history.steps[path].started_at or 0.0
                row = self._row(path, step.control.approval, entered, started, history.state)
                # The crash may have come before the row was stored.
                self._pending[path] = self._changed[path] = row

    def observe(self, event: e.Event, data: Mapping[str, Any] | None, state: RunState) -> None:
        """An event was folded."""
        match event:
            case e.ApprovalRequested(path=path, approval_id=approval_id, at=at):
                row = self._row(path, approval_id, data or {}, at, state)
                self._pending[path] = self._changed[path] = row
            case e.ApprovalAnswered(path=path, action=action, by=by, at=at) if path in self._pending:
                row = self._pending.pop(path)
                answered = replace(row, status="answered", action=action, answered_by=by, answered_at=at)
                self._changed[path] = answered
            case e.ClockMoved():
                for path, row in self._pending.items():
                    moved = replace(row, expires_at=_due_at(path, state))
                    self._pending[path] = self._changed[path] = moved
            case e.ApprovalExpired(path=path) if path in self._pending:
                self._changed[path] = replace(self._pending.pop(path), status="expired")
            case _:
                pass

    def changes(self, state: RunState) -> tuple[ApprovalRow, ...]:
        """Rows that changed since the last call."""
        if not self._pending and not self._changed:
            return ()
        if self._pending:
            for path in [path for path in self._pending if state.steps[path].status in _OVER]:
                self._changed[path] = replace(self._pending.pop(path), status="cancelled")
        rows = tuple(self._changed.values())
        self._changed.clear()
        return rows

    def _row(
        self, path: str, approval_id: str, asked: Mapping[str, Any], at: float, state: RunState
    ) -> ApprovalRow:
        return ApprovalRow(
            id=approval_id,
            tenant=self._run.tenant,
            run_id=self._run.run_id,
            path=path,
            workflow=self._run.workflow,
            message=asked.get("message", ""),
            form=asked.get("form"),
            created_at=at,
            expires_at=_due_at(path, state),
        )


def _due_at(path: str, state: RunState) -> float | None:
    control = state.steps[path].control
    return None if control is None else control.due_at


_OVER = ENDED | {StepStatus.FAILING}
"""A pending approval whose step is here was overtaken: by a cancellation, or for lack of time."""
