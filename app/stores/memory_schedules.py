"""The in-memory twin of the schedule store. It shares the runs and the answers of its `MemoryStore`."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Sequence
from dataclasses import replace

from app.ports.errors import AlreadyExists
from app.ports.runs import TERMINAL_STATUSES, IdempotencyRecord, RunRow
from app.ports.schedules import FiringSchedule, ScheduleRow
from app.stores.memory_data import MemoryData


class MemorySchedules:
    """`app.ports.schedules.ScheduleStore`."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data
        self._rows: dict[str, ScheduleRow] = {}

    async def create(self, schedule: ScheduleRow, idempotency: IdempotencyRecord | None = None) -> None:
        self._data.require_open()
        self._data.require_free(idempotency)
        self._require_free_name(schedule)
        if schedule.id in self._rows:
            raise AlreadyExists(f"schedule {schedule.id!r} exists already: give a new one a new id")
        self._rows[schedule.id] = schedule
        self._data.keep_answer(idempotency)
        await asyncio.sleep(0)

    async def get(self, tenant: str, schedule_id: str) -> ScheduleRow | None:
        self._data.require_open()
        found = self._rows.get(schedule_id)
        return found if found is not None and found.tenant == tenant else None

    async def by_name(self, tenant: str, name: str) -> ScheduleRow | None:
        self._data.require_open()
        return next((row for row in self._of(tenant) if row.name == name), None)

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[ScheduleRow]:
        self._data.require_open()
        rows = [row for row in self._of(tenant) if row.name > (after or "")]
        return sorted(rows, key=lambda row: row.name)[:limit]

    async def update(self, schedule: ScheduleRow) -> bool:
        self._data.require_open()
        self._require_free_name(schedule)
        if not self._follows(schedule):
            return False
        self._rows[schedule.id] = replace(schedule, created_at=self._rows[schedule.id].created_at)
        await asyncio.sleep(0)
        return True

    async def advance(self, schedules: Sequence[ScheduleRow]) -> Sequence[bool]:
        self._data.require_open()
        done = []
        for row in schedules:
            done.append(follows := self._follows(row))
            if follows:
                self._rows[row.id] = replace(
                    self._rows[row.id], progress=row.progress, generation=row.generation
                )
        await asyncio.sleep(0)
        return done

    async def delete(self, tenant: str, schedule_id: str, *, revision: int | None = None) -> bool:
        found = await self.get(tenant, schedule_id)
        if found is None or revision not in (None, found.revision):
            return False
        del self._rows[schedule_id]
        await asyncio.sleep(0)
        return True

    async def due(self, now: float, *, limit: int) -> Sequence[FiringSchedule]:
        self._data.require_open()
        times = [(row.progress.next_fire_at, row.id) for row in self._rows.values()]
        due = sorted((at, schedule_id) for at, schedule_id in times if at is not None and at <= now)
        return [self._firing(self._rows[schedule_id]) for _, schedule_id in due[:limit]]

    async def startable(
        self, *, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[FiringSchedule]:
        self._data.require_open()
        queued = [row for row in self._rows.values() if row.progress.queue and not row.paused]
        queued.sort(key=_place)
        rest = (row for row in queued if after is None or _place(row) > after)
        return [self._firing(row) for row in rest if self._can_be_acted_upon(row)][:limit]

    async def next_fire_at(self) -> float | None:
        self._data.require_open()
        times = (row.progress.next_fire_at for row in self._rows.values())
        return min((at for at in times if at is not None), default=None)

    def _of(self, tenant: str) -> builtins.list[ScheduleRow]:
        return [row for row in self._rows.values() if row.tenant == tenant]

    def _require_free_name(self, schedule: ScheduleRow) -> None:
        for row in self._of(schedule.tenant):
            if row.name == schedule.name and row.id != schedule.id:
                raise AlreadyExists(f"the schedule name {schedule.name!r} is taken: choose another one")

    def _follows(self, schedule: ScheduleRow) -> bool:
        stored = self._rows.get(schedule.id)
        return (
            stored is not None
            and stored.tenant == schedule.tenant
            and stored.generation == schedule.generation - 1
        )

    def _previous(self, schedule: ScheduleRow) -> RunRow | None:
        """The run before, unless it has ended."""
        run = self._data.runs.get(schedule.progress.previous_run_id or "")
        return run if run is not None and run.status not in TERMINAL_STATUSES else None

    def _can_be_acted_upon(self, schedule: ScheduleRow) -> bool:
        previous = self._previous(schedule)
        return previous is None or (
            schedule.spec.overlap == "cancel_previous" and previous.status != "cancelling"
        )

    def _firing(self, schedule: ScheduleRow) -> FiringSchedule:
        return FiringSchedule(schedule=schedule, previous_active=self._previous(schedule) is not None)


def _place(schedule: ScheduleRow) -> tuple[float, str]:
    return schedule.progress.queue[0], schedule.id
