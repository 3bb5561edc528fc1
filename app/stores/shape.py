"""What every store refuses before it touches anything: writes whose shape is a mistake of the caller.

A gap or a taken seq between a write and the stored journal is `Fenced` and belongs to the adapters.
"""

from __future__ import annotations

from collections.abc import Sequence

from app.ports.runs import JournalRow, RunRow, StatusChange


def check_append(rows: Sequence[JournalRow], change: StatusChange | None) -> None:
    """Raise ValueError unless the rows are of one run with adjoining seqs from 1 up."""
    if not rows:
        if change is not None:
            raise ValueError("a status change needs the events behind it: append at least one row")
        return
    first = rows[0]
    if first.seq < 1:
        raise ValueError(f"seq counts from 1, not {first.seq!r} (run {first.run_id!r})")
    for position, row in enumerate(rows):
        if row.run_id != first.run_id or row.seq != first.seq + position:
            raise ValueError(
                f"rows of one append must belong to run {first.run_id!r} and have adjoining seqs: "
                f"expected seq {first.seq + position!r}, got {row.seq!r} of run {row.run_id!r}"
            )


def check_create(run: RunRow, events: Sequence[JournalRow]) -> None:
    """Raise ValueError unless the events are this run's first ones."""
    check_append(events, None)
    if events and (events[0].run_id != run.id or events[0].seq != 1):
        raise ValueError(f"the first events of run {run.id!r} must carry its id and begin at seq 1")
