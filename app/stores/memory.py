"""The in-memory twin of the stores: the same behaviour without a file, for tests and one-off runs.

Nothing survives the process. A write takes effect between two turns of the event loop, so it is atomic
by itself; it still yields once, as a durable one does.
"""

from __future__ import annotations

import asyncio
import builtins
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from app.ports.errors import AlreadyExists, Fenced
from app.ports.inbox import Inbox
from app.ports.index_contracts import IndexContracts
from app.ports.runs import (
    ANSWERS_KEPT_SECONDS,
    ApprovalStore,
    Definition,
    IdempotencyRecord,
    IdempotencyStore,
    Journal,
    JournalRow,
    RunStore,
    StatusChange,
    StepCache,
    WorkflowRow,
    WorkflowStore,
)
from app.ports.schedules import ScheduleStore
from app.ports.webhooks import WebhookStore
from app.stores.expiry import has_expired
from app.stores.memory_data import MemoryData
from app.stores.memory_inbox import MemoryInbox
from app.stores.memory_records import MemoryApprovals, MemoryIndexContracts, MemoryStepCache
from app.stores.memory_runs import MemoryRuns
from app.stores.memory_schedules import MemorySchedules
from app.stores.memory_webhooks import MemoryWebhooks
from app.stores.shape import check_append


class MemoryJournal:
    """`app.ports.runs.Journal`."""

    def __init__(self, data: MemoryData, webhooks: MemoryWebhooks) -> None:
        self._data = data
        self._webhooks = webhooks

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
        if change is not None:
            self._data.change(run_id, change)
            if (run := self._data.runs.get(run_id)) is not None:
                self._webhooks.status_changed(run, rows)
        await asyncio.sleep(0)

    async def read(
        self, run_id: str, *, after: int = 0, limit: int | None = None, max_bytes: int | None = None
    ) -> Sequence[JournalRow]:
        self._data.require_open()
        rows = self._data.journal.get(run_id, [])
        start = max(after, 0)
        found = rows[start:] if limit is None else rows[start : start + limit]
        if max_bytes is None:
            return found
        sizes = accumulate((len(row.payload) for row in found), initial=0)
        return [row for row, before in zip(found, sizes, strict=False) if before <= max_bytes]


class MemoryWorkflows:
    """`app.ports.runs.WorkflowStore`."""

    def __init__(self, data: MemoryData) -> None:
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

    def __init__(self, data: MemoryData) -> None:
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
        self, *, keep_idempotency: float = ANSWERS_KEPT_SECONDS, now: Callable[[], float] = time.time
    ) -> None:
        self._data = MemoryData(keep=keep_idempotency, now=now)
        webhooks = MemoryWebhooks(self._data)
        self.webhooks: WebhookStore = webhooks
        self.journal: Journal = MemoryJournal(self._data, webhooks)
        self.runs: RunStore = MemoryRuns(self._data, webhooks)
        self.workflows: WorkflowStore = MemoryWorkflows(self._data)
        self.idempotency: IdempotencyStore = MemoryIdempotency(self._data)
        self.approvals: ApprovalStore = MemoryApprovals(self._data)
        self.cache: StepCache = MemoryStepCache(self._data)
        self.index_contracts: IndexContracts = MemoryIndexContracts(self._data)
        self.inbox: Inbox = MemoryInbox(self._data)
        self.schedules: ScheduleStore = MemorySchedules(self._data)

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
