"""Requests about runs, each done once a key: by what the journal says, whatever was answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from app.engines.asked_before import effect_of
from app.engines.engine import NotPossible, RunEnded
from app.ports.clock import Clock
from app.ports.runs import ANSWERS_KEPT_SECONDS, Journal
from app.services.errors import ApprovalAnswered, ApprovalExpired
from app.services.idempotency import IdempotencyKey

T = TypeVar("T")
REFUSALS: Final = (NotPossible, RunEnded, ApprovalAnswered, ApprovalExpired)
"""What a repeated request may meet because the first one took effect."""


class AskedOnce:
    """Of the runs of a process."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    async def once(
        self,
        tenant: str,
        key: IdempotencyKey | None,
        run_id: str,
        act: Callable[[str | None], Awaitable[T]],
        done: Callable[[int], Awaitable[T]],
    ) -> T:
        """Act, given the request's id; `done` if it took effect before, given where in the journal.

        Without a key it always acts, and there is no id. Raises what `act` raises.
        """
        if key is None:
            return await act(None)
        request = key.request(tenant)
        seq = await self._effect(run_id, request)
        if seq is not None:
            return await done(seq)
        try:
            return await act(request)
        except REFUSALS:
            # What was asked before may have taken effect just now, and be why this is refused.
            seq = await self._effect(run_id, request)
            if seq is None:
                raise
        return await done(seq)

    async def _effect(self, run_id: str, request: str) -> int | None:
        since = self._clock.now() - ANSWERS_KEPT_SECONDS
        return await effect_of(self._journal, run_id, request, since=since)


async def nothing_more(_: int) -> None:
    """`done`, where all that is told is that it was."""
