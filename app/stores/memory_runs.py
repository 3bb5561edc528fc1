"""The runs of the in-memory store."""

from __future__ import annotations

import asyncio
import builtins
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from heapq import nlargest, nsmallest
from typing import Final

from app.ports.errors import AlreadyExists
from app.ports.runs import (
    TERMINAL_STATUSES,
    Definition,
    IdempotencyRecord,
    JournalRow,
    RunFilter,
    RunRow,
    RunStatus,
    StatusChange,
)
from app.ports.webhooks import Endpoint
from app.stores.memory_data import MemoryData
from app.stores.memory_webhooks import MemoryWebhooks
from app.stores.shape import check_create, check_create_many

WAKEABLE: Final = frozenset({"waiting", "paused", "cancelling"})
UNFINISHED: Final = WAKEABLE | {"pending", "running"}


class MemoryRuns:
    """`app.ports.runs.RunStore`."""

    def __init__(self, data: MemoryData, webhooks: MemoryWebhooks) -> None:
        self._data = data
        self._webhooks = webhooks

    async def create(
        self,
        run: RunRow,
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
        *,
        change: StatusChange | None = None,
        webhook: Endpoint | None = None,
    ) -> None:
        check_create(run, events, change)
        data = self._data
        data.require_open()
        data.require_free(idempotency)
        if run.id in data.runs or data.journal.get(run.id):
            raise AlreadyExists(f"run {run.id!r} exists already: give a new run a new id")
        data.runs[run.id] = replace(run, labels=dict(run.labels))
        data.journal[run.id] = [*events]
        data.definitions.setdefault(definition.hash, definition)
        data.keep_answer(idempotency)
        if change is not None:
            data.change(run.id, change)
        self._webhooks.bind(webhook)
        self._webhooks.status_changed(data.runs[run.id], events)
        await asyncio.sleep(0)

    async def create_many(
        self,
        runs: Sequence[RunRow],
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
    ) -> None:
        check_create_many(runs, events)
        data = self._data
        data.require_open()
        data.require_free(idempotency)
        taken = next((run.id for run in runs if run.id in data.runs or data.journal.get(run.id)), None)
        if taken is not None:
            raise AlreadyExists(f"run {taken!r} exists already: give a new run a new id")
        for run, event in zip(runs, events, strict=True):
            data.runs[run.id] = replace(run, labels=dict(run.labels))
            data.journal[run.id] = [event]
            self._webhooks.status_changed(run, [event])
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

    async def due(self, now: float, *, limit: int) -> Sequence[RunRow]:
        self._data.require_open()
        times = sorted((at, run_id) for run_id, at in self._wakeable() if at <= now)
        return [self._data.runs[run_id] for _, run_id in times[:limit]]

    async def next_wake(self) -> float | None:
        self._data.require_open()
        return min((at for _, at in self._wakeable() if at != math.inf), default=None)

    async def wake_parked(self) -> int:
        self._data.require_open()
        timed = [run_id for run_id, at in self._wakeable() if at != math.inf]
        for run_id in timed:
            self._data.set_wake_at(run_id, 0.0)
        await asyncio.sleep(0)
        return len(timed)

    async def wake_callers(self, *, ended_after: float = -math.inf) -> int:
        self._data.require_open()
        ended = [run for run in self._in(TERMINAL_STATUSES) if run.parent_run_id is not None]
        callers = {
            run.parent_run_id for run in ended if run.finished_at is None or run.finished_at > ended_after
        }
        woken = sum(self._data.wake(run_id) for run_id in callers if run_id is not None)
        await asyncio.sleep(0)
        return woken

    async def active_by_concurrency_key(self) -> Mapping[tuple[str, str, str], Sequence[str]]:
        self._data.require_open()
        found: dict[tuple[str, str, str], builtins.list[str]] = {}
        begun = [run for run in self._in(UNFINISHED) if run.started_at is not None]
        for run in sorted(begun, key=lambda run: (run.started_at or 0.0, run.id)):
            if run.concurrency_key is not None:
                found.setdefault((run.tenant, run.workflow, run.concurrency_key), []).append(run.id)
        return found

    async def overtaken(
        self, tenant: str, workflow: str, key: str, *, keep: int, limit: int
    ) -> Sequence[RunRow]:
        self._data.require_open()
        wanted = (tenant, workflow, key)
        found = (
            run for run in self._in(UNFINISHED) if (run.tenant, run.workflow, run.concurrency_key) == wanted
        )
        return nlargest(keep + limit, found, key=_age)[keep:]

    async def statuses(self, run_ids: Collection[str]) -> Mapping[str, RunStatus]:
        self._data.require_open()
        runs = self._data.runs
        return {run_id: runs[run_id].status for run_id in run_ids if run_id in runs}

    async def children(self, tenant: str, run_id: str) -> Sequence[RunRow]:
        self._data.require_open()
        runs = self._data.runs.values()
        return sorted((run for run in runs if run.tenant == tenant and run.parent_run_id == run_id), key=_age)

    async def prune(self, finished_before: float, *, limit: int) -> int:
        data = self._data
        data.require_open()
        ended = [
            (run.finished_at, run.id)
            for run in self._in(TERMINAL_STATUSES)
            if run.finished_at is not None
            and run.finished_at < finished_before
            and not self._is_unfinished(run.parent_run_id)
        ]
        gone = nsmallest(limit, ended)
        for _, run_id in gone:
            data.forget(run_id)
        data.forget_unnamed_definitions()
        await asyncio.sleep(0)
        return len(gone)

    def _is_unfinished(self, run_id: str | None) -> bool:
        run = None if run_id is None else self._data.runs.get(run_id)
        return run is not None and run.status not in TERMINAL_STATUSES

    def _wakeable(self) -> Iterable[tuple[str, float]]:
        runs = self._data.runs
        return ((run_id, at) for run_id, at in self._data.wake_at.items() if runs[run_id].status in WAKEABLE)

    def _in(self, statuses: frozenset[str]) -> Iterable[RunRow]:
        return (run for run in self._data.runs.values() if run.status in statuses)


def _age(run: RunRow) -> tuple[float, str]:
    return run.created_at, run.id


def _matches(run: RunRow, filter: RunFilter) -> bool:
    return (
        (not filter.statuses or run.status in filter.statuses)
        and (filter.workflow is None or run.workflow == filter.workflow)
        and filter.labels.items() <= run.labels.items()
        and (filter.created_after is None or run.created_at > filter.created_after)
        and (filter.created_before is None or run.created_at < filter.created_before)
    )
