"""Many runs in one transaction of their own, so that they and the answer about them are there or are not.

It is the plan of a group commit, executed beside the group: a unit that would be refused there refuses all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.ports.runs import Definition, IdempotencyRecord, JournalRow, RunRow
from app.stores.sql.batch import PAGE_BYTES, PAGES_A_RUN, Plan, ask_all
from app.stores.sql.connections import Connection, Statements
from app.stores.sql.facts import Facts
from app.stores.sql.units import Create

LABELS_A_PAGE: Final = 16
"""A label's row stands in two trees, some 250 bytes together."""


def units_of(
    runs: Sequence[RunRow],
    events: Sequence[JournalRow],
    definition: Definition,
    idempotency: IdempotencyRecord | None,
) -> list[Create]:
    """A unit for each run; the first one carries the answer."""
    first = [idempotency] + [None] * (len(runs) - 1)
    return [
        Create(run, [event], definition, answer)
        for run, event, answer in zip(runs, events, first, strict=True)
    ]


def pages_of(units: Sequence[Create]) -> int:
    """About how much the write-ahead log grows by them."""
    payloads = sum(len(event.payload) for unit in units for event in unit.events)
    labels = sum(len(unit.run.labels) for unit in units)
    return len(units) * PAGES_A_RUN + labels // LABELS_A_PAGE + payloads // PAGE_BYTES


def create_all(connection: Connection, sql: Statements, units: Sequence[Create], keep: float) -> None:
    """Store every unit within the transaction that is open. Raises `StoreError` for the first refused."""
    plan = Plan(Facts(), ask_all(connection, sql, units), keep=keep)
    plan.add(units)
    for refusal in plan.outcomes:
        if refusal is not None:
            raise refusal
    for text, parameters in plan.statements(sql):
        connection.execute(text, parameters)
