"""Deletes finished runs, in transactions that hold nobody up.

One call deletes so many rows and bytes of journals at most, whatever the runs are like. A run whose journal
is larger goes in parts: first everything by which it is known, so that nobody meets half a run, then the
rest of its journal (its id stands in `pruned_journals` until that is done), the first event last, which
keeps the id taken until then.

Definitions of runs that go are deleted with the last of these. Beside them a slice of all definitions is
looked through in each call, in the order of their hashes and round again, so that those that nothing names
are found sooner or later, whatever they were named by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.stores.sql.connections import Connection, Statements

MAX_ROWS: Final = 4000
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of journals, in one transaction. One event goes in any case, however large it is."""
DEFINITIONS_A_CALL: Final = 100
PRUNE_PAGES: Final = 800
"""About what a call adds to the write-ahead log."""


@dataclass(slots=True)
class _Budget:
    """What this transaction may still delete."""

    rows: int = MAX_ROWS
    bytes: int = MAX_BYTES

    @property
    def spent(self) -> bool:
        return self.rows <= 0 or self.bytes <= 0


class Pruner:
    """Keeps the place up to which definitions were looked through; used on the writer's thread only."""

    def __init__(self, sql: Statements) -> None:
        self._sql = sql
        self._looked_through = ""

    def prune(self, connection: Connection, finished_before: float, limit: int) -> int:
        """Delete within a transaction that is open; returns how many runs it deleted anything of."""
        budget = _Budget()
        touched = self._finish(connection, budget, limit)
        gone: dict[str, str] = {}
        if touched < limit and not budget.spent:
            gone = self._begin(connection, budget, finished_before, limit - touched)
        self._definitions(connection, set(gone.values()))
        return touched + len(gone)

    def _finish(self, connection: Connection, budget: _Budget, limit: int) -> int:
        """Go on with the journals of runs that are gone."""
        touched = 0
        for run_id in _column(connection, self._sql["pruned_journals_get"], {"limit": limit}):
            if budget.spent:
                break
            touched += 1
            if self._delete_journal(connection, run_id, budget):
                connection.execute(self._sql["pruned_journals_delete"], {"run_id": run_id})
        return touched

    def _begin(
        self, connection: Connection, budget: _Budget, finished_before: float, limit: int
    ) -> dict[str, str]:
        """Delete the runs that ended first; their ids and definitions."""
        bounds = {"finished_before": finished_before, "limit": limit}
        gone: dict[str, str] = {}
        for run_id, definition in connection.execute(self._sql["runs_ended_before"], bounds).fetchall():
            if budget.spent:
                break
            gone[run_id] = definition
            if not self._delete_journal(connection, run_id, budget):
                connection.execute(self._sql["pruned_journals_set"], {"run_id": run_id})
        run_ids = {"run_ids": _array(gone)}
        # Labels refer to their run, so they go first.
        for name in ("labels_delete", "approvals_delete", "runs_delete"):
            connection.execute(self._sql[name], run_ids)
        return gone

    def _delete_journal(self, connection: Connection, run_id: str, budget: _Budget) -> bool:
        """Delete a run's last events as far as the budget goes; whether that was all of them."""
        asked = {"run_id": run_id, "limit": max(budget.rows, 1) + 1}
        sizes: Sequence[tuple[int, int]] = connection.execute(self._sql["journal_sizes"], asked).fetchall()
        first, count = 0, 0
        for seq, size in sizes:
            if count and budget.spent:
                break
            first, count = seq, count + 1
            budget.rows -= 1
            budget.bytes -= size
        if count:
            connection.execute(self._sql["journal_delete"], {"run_id": run_id, "first": first})
        return count == len(sizes)

    def _definitions(self, connection: Connection, named_before: set[str]) -> None:
        """Delete those of them, and of the next slice, that nothing names."""
        asked = {"after": self._looked_through, "limit": DEFINITIONS_A_CALL}
        slice_ = _column(connection, self._sql["definitions_after"], asked)
        self._looked_through = slice_[-1] if len(slice_) == DEFINITIONS_A_CALL else ""
        doubtful = {"hashes": _array(named_before.union(slice_))}
        gone: list[str] = []
        left = MAX_BYTES
        for definition, size in connection.execute(self._sql["definitions_unnamed"], doubtful).fetchall():
            if left <= 0:
                break  # the next round finds the others
            gone.append(definition)
            left -= size
        connection.execute(self._sql["definitions_delete"], {"hashes": _array(gone)})


def _column(connection: Connection, text: str, parameters: dict[str, Any]) -> list[str]:
    return [row[0] for row in connection.execute(text, parameters).fetchall()]


def _array(items: Iterable[str]) -> str:
    return orjson.dumps(list(items)).decode()
