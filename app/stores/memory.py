"""The in-memory twin of the stores: the same behaviour without a file, for tests and one-off runs.

Nothing survives the process. A write takes effect between two turns of the event loop, so it is atomic
by itself; it still yields once, as a durable one does.
"""

from __future__ import annotations

import asyncio
import builtins
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest

from app.ports.errors import AlreadyExists, Fenced, StoreUnavailable
from app.ports.runs import (
    TERMINAL_STATUSES,
    Definition,
    IdempotencyRecord,
    IdempotencyStore,
    Journal,
    JournalRow,
    RunFilter,
    RunRow,
    RunStore,
    StatusChange,
    WorkflowRow,
    WorkflowStore,
)
from app.stores.expiry import KEEP_SECONDS, has_expired
from app.stores.shape import check_append, check_create


@dataclass(slots=True)
class _Data:
    """All that is stored, shared by the four views."""

    keep: float
    now: Callable[[], float]
    open: bool = False
    journal: dict[str, list[JournalRow]] = field(default_factory=dict)
    runs: dict[str, RunRow] = field(default_factory=dict)
    definitions: dict[str, Definition] = field(default_factory=dict)
    workflows: dict[tuple[str, str], list[WorkflowRow]] = field(default_factory=dict)
    answers: dict[tuple[str, str], IdempotencyRecord] = field(default_factory=dict)

    def require_open(self) -> None:
        if not self.open:
            raise StoreUnavailable("the store is closed: open it first")

    def require_free(self, record: IdempotencyRecord | None) -> None:
        if record is None:
            return
        found = self.answers.get((record.tenant, record.key))
        if found is not None and not has_expired(found.created_at, record.created_at, self.keep):
            raise AlreadyExists(f"idempotency key {record.key!r} is taken: read the answer kept under it")

    def keep_answer(self, record: IdempotencyRecord | None) -> None:
        if record is not None:
            self.answers[record.tenant, record.key] = record


class MemoryJournal:
    """`app.ports.runs.Journal`."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    async def append(self, rows: Sequence[JournalRow], change: StatusChange | None = None) -> None:
        check_append(rows, change)
        self._data.require_open()
        if not rows:
            return
        run_id, first = rows[0].run_id, rows[0].seq
        last = len(self._data.journal.get(run_id, ()))
        if first != last + 1:
            raise Fenced(
                f"run {run_id!r} stands at seq {last!r}, so seq {first!r} cannot follow: "
                "another writer has taken the run over, stop driving it"
            )
        self._data.journal.setdefault(run_id, []).extend(rows)
        run = self._data.runs.get(run_id)
        if change is not None and run is not None:
            self._data.runs[run_id] = _changed(run, change)
        await asyncio.sleep(0)

    async def read(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[JournalRow]:
        self._data.require_open()
        rows = self._data.journal.get(run_id, [])
        start = max(after, 0)
        return rows[start:] if limit is None else rows[start : start + limit]


class MemoryRuns:
    """`app.ports.runs.RunStore`."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    async def create(
        self,
        run: RunRow,
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
    ) -> None:
        check_create(run, events)
        data = self._data
        data.require_open()
        data.require_free(idempotency)
        if run.id in data.runs or data.journal.get(run.id):
            raise AlreadyExists(f"run {run.id!r} exists already: give a new run a new id")
        data.runs[run.id] = replace(run, labels=dict(run.labels))
        data.journal[run.id] = [*events]
        data.definitions.setdefault(definition.hash, definition)
        data.keep_answer(idempotency)
        await asyncio.sleep(0)

    async def get(self, tenant: str, run_id: str) -> RunRow | None:
        self._data.require_open()
        run = self._data.runs.get(run_id)
        return run if run is not None and run.tenant == tenant else None

    async def list(
        self, tenant: str, filter: RunFilter, *, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[RunRow]:
        self._data.require_open()
        found = (run for run in self._data.runs.values() if run.tenant == tenant and _matches(run, filter))
        older = (run for run in found if before is None or _age(run) < before)
        return nlargest(limit, older, key=_age)

    async def unfinished(
        self, *, limit: int, statuses: frozenset[str], exclude: frozenset[str] = frozenset()
    ) -> Sequence[RunRow]:
        self._data.require_open()
        found = (run for run in self._in(statuses) if run.id not in exclude)
        return nsmallest(limit, found, key=lambda run: (-run.priority, run.created_at, run.id))

    async def count(self, statuses: frozenset[str]) -> int:
        self._data.require_open()
        return sum(1 for _ in self._in(statuses))

    async def active_of_workflow(self, tenant: str, workflow: str) -> int:
        self._data.require_open()
        return sum(
            run.tenant == tenant and run.workflow == workflow and run.status not in TERMINAL_STATUSES
            for run in self._data.runs.values()
        )

    async def definition(self, hash: str) -> Definition | None:
        self._data.require_open()
        return self._data.definitions.get(hash)

    def _in(self, statuses: frozenset[str]) -> Iterable[RunRow]:
        return (run for run in self._data.runs.values() if run.status in statuses)


class MemoryWorkflows:
    """`app.ports.runs.WorkflowStore`."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    async def register(
        self, workflow: WorkflowRow, definition: Definition, idempotency: IdempotencyRecord | None = None
    ) -> WorkflowRow:
        data = self._data
        data.require_open()
        data.require_free(idempotency)
        stored = data.workflows.get((workflow.tenant, workflow.name), [])
        if any(row.version == workflow.version for row in stored):
            raise AlreadyExists(
                f"version {workflow.version!r} of workflow {workflow.name!r} is registered: "
                "register another version"
            )
        row = replace(workflow, revision=len(stored) + 1, labels=dict(workflow.labels))
        data.workflows[workflow.tenant, workflow.name] = [*stored, row]
        data.definitions.setdefault(definition.hash, definition)
        data.keep_answer(idempotency)
        await asyncio.sleep(0)
        return row

    async def get(self, tenant: str, name: str, version: str | None = None) -> WorkflowRow | None:
        rows = self._versions(tenant, name)
        if version is None:
            return rows[-1] if rows else None
        return next((row for row in rows if row.version == version), None)

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[WorkflowRow]:
        self._data.require_open()
        names = sorted(name for owner, name in self._data.workflows if owner == tenant)
        start = bisect_right(names, after or "")
        return [self._data.workflows[tenant, name][-1] for name in names[start : start + limit]]

    async def versions(
        self, tenant: str, name: str, *, limit: int, before_revision: int | None = None
    ) -> Sequence[WorkflowRow]:
        rows = self._versions(tenant, name)
        older = [row for row in rows if before_revision is None or row.revision < before_revision]
        return older[::-1][:limit]

    async def delete(self, tenant: str, name: str) -> int:
        self._data.require_open()
        gone = self._data.workflows.pop((tenant, name), [])
        await asyncio.sleep(0)
        return len(gone)

    def _versions(self, tenant: str, name: str) -> builtins.list[WorkflowRow]:
        self._data.require_open()
        return self._data.workflows.get((tenant, name), [])


class MemoryIdempotency:
    """`app.ports.runs.IdempotencyStore`."""

    def __init__(self, data: _Data) -> None:
        self._data = data

    async def find(self, tenant: str, key: str) -> IdempotencyRecord | None:
        self._data.require_open()
        found = self._data.answers.get((tenant, key))
        if found is None or has_expired(found.created_at, self._data.now(), self._data.keep):
            return None
        return found

    async def save(self, record: IdempotencyRecord) -> None:
        self._data.require_open()
        self._data.require_free(record)
        self._data.keep_answer(record)
        await asyncio.sleep(0)

    async def prune(self, older_than: float) -> int:
        self._data.require_open()
        old = [key for key, record in self._data.answers.items() if record.created_at < older_than]
        for key in old:
            del self._data.answers[key]
        await asyncio.sleep(0)
        return len(old)


class MemoryStore:
    """`app.ports.runs.Store` in memory. Closing keeps the data: opening again is a restart."""

    def __init__(
        self, *, keep_idempotency: float = KEEP_SECONDS, now: Callable[[], float] = time.time
    ) -> None:
        self._data = _Data(keep=keep_idempotency, now=now)
        self.journal: Journal = MemoryJournal(self._data)
        self.runs: RunStore = MemoryRuns(self._data)
        self.workflows: WorkflowStore = MemoryWorkflows(self._data)
        self.idempotency: IdempotencyStore = MemoryIdempotency(self._data)

    @property
    def waiting(self) -> int:
        """Writes that are not stored yet: none, ever."""
        return 0

    async def open(self) -> None:
        """Get ready."""
        self._data.open = True

    async def close(self) -> None:
        """Refuse reads and writes until opened again."""
        self._data.open = False

    async def flush(self) -> None:
        """Every write is done before it returns."""

    async def check(self) -> None:
        """Raise `StoreUnavailable` when closed."""
        self._data.require_open()


def _age(run: RunRow) -> tuple[float, str]:
    return run.created_at, run.id


def _changed(run: RunRow, change: StatusChange) -> RunRow:
    return replace(
        run,
        status=change.status,
        started_at=run.started_at if change.started_at is None else change.started_at,
        finished_at=run.finished_at if change.finished_at is None else change.finished_at,
    )


def _matches(run: RunRow, filter: RunFilter) -> bool:
    return (
        (not filter.statuses or run.status in filter.statuses)
        and (filter.workflow is None or run.workflow == filter.workflow)
        and filter.labels.items() <= run.labels.items()
        and (filter.created_after is None or run.created_at > filter.created_after)
        and (filter.created_before is None or run.created_at < filter.created_before)
    )
