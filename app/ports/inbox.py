"""What was asked of runs that another process may have in hand: cancel, pause, resume, answer.

Whoever asks writes a control; only the owner of the run appends to the journal, and says here what became
of the control. A control that nobody settled is still to be looked at, by whoever owns the run next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

ControlOutcome = Literal["stored", "refused"]
"""The event is in the journal, or it could not happen any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlRow:
    """One event that is wanted. `type` and `payload` are those of a journal row; `at` is epoch seconds."""

    id: str
    run_id: str
    type: str
    payload: bytes
    at: float
    outcome: ControlOutcome | None = None
    """None until the owner of the run has settled it."""


class Inbox(Protocol):
    """The controls of all runs. Every write is durable on return."""

    async def put(self, control: ControlRow) -> None:
        """Keep a control. Raises `AlreadyExists` when its id is taken."""
        ...

    async def get(self, control_id: str) -> ControlRow | None:
        """One control."""
        ...

    async def unsettled(self, run_ids: Collection[str]) -> Sequence[ControlRow]:
        """Controls of these runs without an outcome, oldest first by (at, id)."""
        ...

    async def neglected(self, before: float, *, limit: int) -> Sequence[str]:
        """Runs of the oldest unsettled controls from before that time (epoch seconds), `limit` controls."""
        ...

    async def settle(self, control_id: str, outcome: ControlOutcome) -> None:
        """Keep what became of a control; the first outcome stays. Harmless for one that is gone."""
        ...

    async def prune(self, older_than: float) -> int:
        """Delete controls from before that time (epoch seconds), settled or not; returns how many."""
        ...
