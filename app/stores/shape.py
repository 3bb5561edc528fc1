"""What every store refuses before it touches anything: writes whose shape is a mistake of the caller.

A gap or a taken seq between a write and the stored journal is `Fenced` and belongs to the adapters.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.ports.runs import ApprovalRow, JournalRow, RunRow, StatusChange


def check_append(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
    """Raise ValueError unless the rows are of one run with adjoining seqs from 1 up, and so the approvals."""
    if not rows:
        if change is not None:
            raise ValueError("a status change needs the events behind it: append at least one row")
        return
    if change is not None and change.approvals:
        _check_approvals(rows[0].run_id, change.approvals)
    first = rows[0]
    if first.seq < 1:
        raise ValueError(f"seq counts from 1, not {first.seq!r} (run {first.run_id!r})")
    for position, row in enumerate(rows):
        if row.run_id != first.run_id or row.seq != first.seq + position:
            raise ValueError(
                f"rows of one append must belong to run {first.run_id!r} and have adjoining seqs: "
                f"expected seq {first.seq + position!r}, got {row.seq!r} of run {row.run_id!r}"
            )


def _check_approvals(run_id: str, approvals: Sequence[ApprovalRow]) -> None:
    tenant = approvals[0].tenant
    for approval in approvals:
        if approval.run_id != run_id or approval.tenant != tenant:
            raise ValueError(
                f"approvals written with events of run {run_id!r} must be of that run and of one tenant: "
                f"{approval.id!r} is of run {approval.run_id!r} and tenant {approval.tenant!r}"
            )


def check_create(run: RunRow, events: Sequence[JournalRow], change: StatusChange | None) -> None:
    """Raise ValueError unless the events are this run's first ones, and the approvals its own."""
    check_append(events, change)
    if change is not None and change.approvals and change.approvals[0].tenant != run.tenant:
        raise ValueError(f"the approvals of run {run.id!r} must be of its tenant {run.tenant!r}")
    if events and (events[0].run_id != run.id or events[0].seq != 1):
        raise ValueError(f"the first events of run {run.id!r} must carry its id and begin at seq 1")


def check_create_many(runs: Sequence[RunRow], events: Sequence[JournalRow]) -> None:
    """Raise ValueError unless there are runs of one tenant, each id once, each with its first event."""
    if not runs or len(runs) != len(events):
        raise ValueError(f"give each run its first event: {len(runs)!r} runs, {len(events)!r} events")
    if len({run.id for run in runs}) != len(runs):
        raise ValueError("runs that are created together must have different ids")
    if len({run.tenant for run in runs}) != 1:
        raise ValueError("runs that are created together must be of one tenant")
    for run, event in zip(runs, events, strict=True):
        if event.run_id != run.id or event.seq != 1:
            raise ValueError(f"the first event of run {run.id!r} must carry its id and seq 1")
