"""What the in-memory stores hold, and the changes that concern more than one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from app.ports.errors import AlreadyExists, StoreUnavailable
from app.ports.inbox import ControlRow
from app.ports.index_contracts import IndexContract
from app.ports.runs import (
    ApprovalRow,
    Definition,
    IdempotencyRecord,
    JournalRow,
    RunRow,
    StatusChange,
    WorkflowRow,
)
from app.stores.expiry import has_expired
from app.stores.parking import is_parked


@dataclass(slots=True)
class MemoryData:
    """All that is stored, shared by the views."""

    keep: float
    now: Callable[[], float]
    open: bool = False
    journal: dict[str, list[JournalRow]] = field(default_factory=dict)
    runs: dict[str, RunRow] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    workflows: dict[tuple[str, str], list[WorkflowRow]] = field(default_factory=dict)
    answers: dict[tuple[str, str], IdempotencyRecord] = field(default_factory=dict)
    wake_at: dict[str, float] = field(default_factory=dict)
    """Of the runs that have one."""
    approvals: dict[str, ApprovalRow] = field(default_factory=dict)
    cache: dict[tuple[str, str], tuple[float, bytes]] = field(default_factory=dict)
    """Expiry and value."""
    index_contracts: dict[tuple[str, str], IndexContract] = field(default_factory=dict)
    inbox: dict[str, ControlRow] = field(default_factory=dict)

    def require_open(self) -> None:
        if not self.open:
            raise StoreUnavailable("the store is closed: open it first")

    def require_free(self, record: IdempotencyRecord | None) -> None:
        if record is None:
            return
        found = self.answers.get((record.tenant, record.key))
        if found is not None and not has_expired(found.created_at, record.created_at, self.keep):
            raise AlreadyExists(f"idempotency key {record.key!r} is taken: read the answer kept under it")

    def keep_answer(self, record: IdempotencyRecord | None) -> None:
        if record is not None:
            self.answers[record.tenant, record.key] = record

    def change(self, run_id: str, change: StatusChange) -> None:
        """What becomes of a run's row, and of what goes with it."""
        run = self.runs.get(run_id)
        if run is not None:
            self.runs[run_id] = replace(
                run,
                status=change.status,
                started_at=run.started_at if change.started_at is None else change.started_at,
                finished_at=run.finished_at if change.finished_at is None else change.finished_at,
            )
            self.set_wake_at(run_id, change.wake_at)
        self.approvals.update((approval.id, approval) for approval in change.approvals)
        if change.wakes is not None:
            self.wake(change.wakes)

    def set_wake_at(self, run_id: str, at: float | None) -> None:
        """None: it waits for no time."""
        if at is None:
            self.wake_at.pop(run_id, None)
        else:
            self.wake_at[run_id] = at

    def wake(self, run_id: str) -> bool:
        """Make a parked run due at once; whether it is one."""
        run = self.runs.get(run_id)
        if run is None or not is_parked(run.status, self.wake_at.get(run_id)):
            return False
        self.wake_at[run_id] = 0.0
        return True

    def forget(self, run_id: str) -> None:
        """Delete a run with all that belongs to it."""
        del self.runs[run_id]
        self.journal.pop(run_id, None)
        self.wake_at.pop(run_id, None)
        for approval_id in [key for key, row in self.approvals.items() if row.run_id == run_id]:
            del self.approvals[approval_id]

    def forget_unnamed_definitions(self) -> None:
        """Delete the definitions that neither a run nor a workflow names."""
        named = {run.definition_hash for run in self.runs.values()}
        named |= {row.definition_hash for rows in self.workflows.values() for row in rows}
        self.definitions = {key: found for key, found in self.definitions.items() if key in named}
