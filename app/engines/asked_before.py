"""What was asked of a run under an idempotency key, known again by what it did.

The id of such a request stands beside its event in the journal, so whoever repeats it is told what became of
it, even if the process died before it kept its answer, or could only say that the outcome was not known yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.engines.codec import decode
from app.ports.runs import Journal, JournalRow

REQUEST: Final = "request"
"""Where the id of a request stands in the data of its event."""
PAGE_ROWS: Final = 1000
"""Events that are looked at together."""


def named(data: Mapping[str, Any], request: str | None) -> Mapping[str, Any]:
    """What travels beside an event, with the id of the request that wants it."""
    return {**data, REQUEST: request} if request else data


async def effect_of(journal: Journal, run_id: str, request: str, *, since: float) -> int | None:
    """The position of the event that a request led to, not before `since` (epoch seconds); None without one.

    Raises `StoreUnavailable`.
    """
    mark = request.encode()
    after = 0
    while rows := await journal.read(run_id, after=after, limit=PAGE_ROWS):
        for row in rows:
            if row.at >= since and mark in row.payload and _is_of(row, request):
                return row.seq
        after = rows[-1].seq
    return None


def _is_of(row: JournalRow, request: str) -> bool:
    """Whether the id stands where it belongs: the texts of a run may quote it."""
    _, data = decode(row)
    return data is not None and data.get(REQUEST) == request
