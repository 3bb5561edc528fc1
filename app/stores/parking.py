"""What it means for a run's row that another run, for whose end it waits, has ended."""

from __future__ import annotations

from dataclasses import replace

from app.ports.runs import StatusChange


def is_parked(status: str, wake_at: float | None) -> bool:
    """Whether a run with this row is to be taken up when a run that it called ends.

    One that is `cancelling` may as well be under way; it is parked only if it says when it wants to wake.
    """
    return status == "waiting" or (status == "cancelling" and wake_at is not None)


def woken(change: StatusChange) -> StatusChange:
    """A change that the wake overtook before it was stored."""
    return replace(change, wake_at=0.0) if is_parked(change.status, change.wake_at) else change
