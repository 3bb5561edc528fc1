"""One group commit as a plan: which units go in, and the rows that all of them come to.

A unit that the plan refuses leaves no row in it, so it fails alone. Refusals rest on what the database
said (`Taken`); what it was not asked about is assumed free and left to its constraints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from app.ports.errors import Fenced, StoreError
from app.ports.runs import TERMINAL_STATUSES, IdempotencyRecord, JournalRow, RunRow, StatusChange
from app.ports.webhooks import NOTIFIED_STATUSES
from app.stores.expiry import has_expired
from app.stores.parking import woken
from app.stores.sql.connections import Connection, Statements
from app.stores.sql.facts import Facts
from app.stores.sql.rows import Row, approval_parameters, idempotency_parameters, run_parameters
from app.stores.sql.units import Append, Create, GroupUnit, Keep, key_exists, run_exists
from app.stores.sql.webhook_rows import endpoint_row

PAGES_A_COMMIT: Final = 4
PAGES_A_RUN: Final = 3
PAGES_A_CHANGE: Final = 1
PAGE_BYTES: Final = 4096
"""From these the growth of the write-ahead log is estimated; being wrong only moves a checkpoint."""


@dataclass(slots=True)
class Taken:
    """What the database said: last seqs, run ids, and idempotency keys with their times of creation."""

    last: dict[str, int] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    keys: dict[tuple[str, str], float] = field(default_factory=dict)


class Plan:
    """Adds units up. `outcomes[i]` is None for a unit that goes in, else why it is refused."""

    def __init__(self, facts: Facts, taken: Taken, *, keep: float) -> None:
        self.outcomes: list[StoreError | None] = []
        self.doubtful: set[str] = set()
        """Runs whose last seq has to be asked for before their units are decided upon."""
        self.last = dict(taken.last)
        self.definitions: dict[str, bytes] = {}
        self.changes: dict[str, StatusChange] = {}
        self._facts = facts
        self._asked = frozenset(taken.last)
        self._runs = set(taken.runs)
        self._stored_keys = taken.keys
        self._new_keys: set[tuple[str, str]] = set()
        self._keep = keep
        self._rows: dict[str, list[Any]] = {
            name: []
            for name in (
                *("insert_runs", "insert_labels", "insert_idempotency", "insert_journal"),
                "insert_webhook_endpoints",
            )
        }
        self._cached: dict[tuple[str, str], tuple[bytes, float]] = {}
        self._approvals: dict[str, Row] = {}
        self._woken: dict[str, None] = {}
        self._notices: list[tuple[str, int, str, float]] = []
        """Run, number, name and time of the events that somebody may want to be told of."""
        self._bytes = 0

    def add(self, units: Sequence[GroupUnit]) -> None:
        """Plan every unit, in order."""
        for unit in units:
            if isinstance(unit, Append):
                self.outcomes.append(self._append(unit))
            elif isinstance(unit, Create):
                self.outcomes.append(self._create(unit))
            else:
                self._keep_value(unit)
                self.outcomes.append(None)

    def _append(self, unit: Append) -> StoreError | None:
        first = unit.rows[0]
        run_id = first.run_id
        last = self.last.get(run_id)
        if last is None:
            last = self._facts.last_seq(run_id)
        if last != first.seq - 1:
            if run_id not in self._asked:
                self.doubtful.add(run_id)
            return Fenced(
                f"run {run_id!r} stands at seq {last!r}, so seq {first.seq!r} cannot follow: "
                "another writer has taken the run over, stop driving it"
            )
        try:
            # What may not be encoded comes before the first row is added.
            approvals = _approval_rows(unit.change)
        except StoreError as error:
            return error
        self._journal(unit)
        if unit.change is not None:
            self._change(run_id, unit.change, approvals)
            self._notice(unit.change.status, unit.rows)
        return None

    def _change(self, run_id: str, change: StatusChange, approvals: dict[str, Row]) -> None:
        before = self.changes.get(run_id)
        self.changes[run_id] = change if before is None else _merge(before, change)
        self._approvals |= approvals
        if change.wakes is not None:
            self._wake(change.wakes)

    def _wake(self, run_id: str) -> None:
        """As if units were stored one by one: a change before it in this batch counts, one after it wins."""
        change = self.changes.get(run_id)
        if change is None:
            self._woken[run_id] = None
        else:
            self.changes[run_id] = woken(change)

    def _keep_value(self, unit: Keep) -> None:
        self._cached[unit.tenant, unit.key] = (unit.value, unit.expires_at)
        self._bytes += len(unit.value)

    def _notice(self, status: str, events: Sequence[JournalRow]) -> None:
        if events and status in NOTIFIED_STATUSES:
            last = events[-1]
            self._notices.append((last.run_id, last.seq, f"run.{status}", last.at))

    def _journal(self, unit: Append | Create) -> None:
        events = unit.rows if isinstance(unit, Append) else unit.events
        parameters = self._rows["insert_journal"]
        for row in events:
            # A copy that is bound at once costs a third of looking for an adapter of `bytes`.
            parameters += (row.run_id, row.seq, row.type, bytearray(row.payload), row.at)
            self._bytes += len(row.payload)
        if events:
            self.last[events[-1].run_id] = events[-1].seq

    def _create(self, unit: Create) -> StoreError | None:
        run, record = unit.run, unit.idempotency
        if record is not None and self._is_taken(record):
            return key_exists(record.key)
        if run.id in self._runs or self.last.get(run.id):
            return run_exists(run.id)
        if not unit.events and run.id not in self._asked:
            # No first event would collide with a journal that is there already.
            self.doubtful.add(run.id)
        try:
            # What may not be encoded comes before the first row is added.
            row = run_parameters(run)
            kept = None if record is None else idempotency_parameters(record)
            approvals = _approval_rows(unit.change)
            webhook = () if unit.webhook is None else endpoint_row(unit.webhook)
        except StoreError as error:
            return error
        self._runs.add(run.id)
        self._rows["insert_runs"] += row
        for key, value in run.labels.items():
            self._rows["insert_labels"] += (run.tenant, key, value, run.created_at, run.id)
        if record is not None and kept is not None:
            self._new_keys.add((record.tenant, record.key))
            self._rows["insert_idempotency"] += kept
            self._bytes += len(record.body)
        if not self._facts.has_definition(unit.definition.hash):
            self.definitions[unit.definition.hash] = unit.definition.document
            self._bytes += len(unit.definition.document)
        self._rows["insert_webhook_endpoints"] += webhook
        self._journal(unit)
        if unit.change is not None:
            self._change(run.id, unit.change, approvals)
        self._notice(run.status, unit.events)
        return None

    def _is_taken(self, record: IdempotencyRecord) -> bool:
        key = (record.tenant, record.key)
        created_at = self._stored_keys.get(key)
        stored = created_at is not None and not has_expired(created_at, record.created_at, self._keep)
        return stored or key in self._new_keys

    @property
    def pages(self) -> int:
        """About how much the write-ahead log grows by it."""
        runs = len(self._rows["insert_runs"]) // len(RunRow.__dataclass_fields__)
        rare = len(self._approvals) + len(self._woken) + len(self._cached)
        leaves = len(self.last) + runs * PAGES_A_RUN + len(self.changes) * PAGES_A_CHANGE + rare
        return PAGES_A_COMMIT + leaves + self._bytes // PAGE_BYTES

    def statements(self, sql: Statements) -> list[tuple[str, Any]]:
        """What stores it, in an order that foreign keys allow; to be executed in one transaction."""
        definitions: list[Any] = []
        for item in self.definitions.items():
            definitions += item
        changes: list[Any] = []
        for run_id, change in self.changes.items():
            changes += (run_id, change.status, change.started_at, change.finished_at, change.wake_at)
        everything = {
            "insert_definitions": definitions,
            **self._rows,
            # A wake is for the row as it was, so it comes before the changes that overtake it.
            "wake_runs": [*self._woken],
            "update_runs": changes,
            "upsert_approvals": [value for row in self._approvals.values() for value in row],
            "upsert_step_cache": [value for key, kept in self._cached.items() for value in (*key, *kept)],
        }
        # A stored key that was no obstacle has expired: the new answer takes its place.
        expired: list[tuple[str, Any]] = [
            (sql["idempotency_delete"], {"tenant": tenant, "key": key})
            for tenant, key in sorted(self._new_keys & self._stored_keys.keys())
        ]
        stored: list[tuple[str, Any]] = [
            statement
            for name, parameters in everything.items()
            for statement in sql.bulk[name].statements(parameters)
        ]
        if self._notices:
            stored.append((sql["webhook_owe"], {"notices": orjson.dumps(self._notices).decode()}))
        return expired + stored

    def finished(self) -> list[str]:
        """The runs that it ends."""
        return [run_id for run_id, change in self.changes.items() if change.status in TERMINAL_STATUSES]


def _approval_rows(change: StatusChange | None) -> dict[str, Row]:
    """By id, so that the last one of an id counts. Raises `StoreError` for what cannot be encoded."""
    if change is None or not change.approvals:
        return {}
    return {approval.id: approval_parameters(approval) for approval in change.approvals}


def _merge(before: StatusChange, after: StatusChange) -> StatusChange:
    """Both changes of a row in one: the later status and wake_at, and each time that either sets."""
    return StatusChange(
        status=after.status,
        started_at=before.started_at if after.started_at is None else after.started_at,
        finished_at=before.finished_at if after.finished_at is None else after.finished_at,
        wake_at=after.wake_at,
    )


def ask_last(connection: Connection, sql: Statements, run_ids: set[str]) -> Taken:
    """The last seqs of these runs, 0 for none."""
    parameters = {"run_ids": orjson.dumps(sorted(run_ids)).decode()}
    return Taken(last=dict(connection.execute(sql["last_seqs"], parameters).fetchall()))


def ask_all(connection: Connection, sql: Statements, units: Sequence[GroupUnit]) -> Taken:
    """Everything these units could collide with."""
    creates = [unit for unit in units if isinstance(unit, Create)]
    created = {unit.run.id for unit in creates}
    taken = ask_last(connection, sql, created | {u.rows[0].run_id for u in units if isinstance(u, Append)})
    parameters = {"run_ids": orjson.dumps(sorted(created)).decode()}
    taken.runs = {row[0] for row in connection.execute(sql["known_runs"], parameters).fetchall()}
    records = [unit.idempotency for unit in creates if unit.idempotency is not None]
    parameters = {"pairs": orjson.dumps(sorted({(record.tenant, record.key) for record in records})).decode()}
    found = connection.execute(sql["known_keys"], parameters).fetchall()
    taken.keys = {(tenant, key): created_at for tenant, key, created_at in found}
    return taken
