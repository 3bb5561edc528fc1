"""Called runs that would wait for ever: for a place that only the end of their own callers can free.

A workflow with a limit that calls itself, or two that call each other, would wait for each other without
end. The run that comes last is refused instead, before it waits.
"""

from __future__ import annotations

from app.dsl.compiled import ConcurrencyRule
from app.engines.concurrency import Call, ConcurrencyBook, key_of, sharing
from app.ports.errors import PermanentError
from app.ports.runs import RunRow


def call_of(run: RunRow, rule: ConcurrencyRule, awaited_by: tuple[str, ...]) -> Call | None:
    """The run as one that waits for a place; None for one without a key, or that nobody waits for."""
    key = key_of(run)
    return Call(key=key, limit=rule.limit, awaited_by=awaited_by) if key and awaited_by else None


def standstill(
    book: ConcurrencyBook, run: RunRow, rule: ConcurrencyRule, call: Call
) -> PermanentError | None:
    """Why a run can never begin, or only by ending its own caller; None for one that can."""
    if not book.full(call.key, rule):
        return None
    oldest = book.oldest(call.key)
    # Under `cancel_oldest` it would take the place of that one, whatever that waits for.
    ends_oldest = rule.on_limit == "cancel_oldest"
    if not (oldest in call.awaited_by if ends_oldest else book.would_stand_still(call)):
        return None
    return PermanentError(
        "invalid_config",
        f"run {call.awaited_by[0]!r} would wait for ever: it calls {sharing(run)}, of which at most "
        f"{rule.limit} may be under way, and run {oldest!r} that is under way waits for this call to end; "
        "raise the limit, give the call another key, or call it with 'wait: false'",
    )
