"""Schedules for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from app.ports.schedules import Fire, FiringSchedule, Progress, ScheduleRow, ScheduleSpec
from tests.stores.samples import NOON

SPEC = ScheduleSpec(workflow="w", interval_seconds=60)
PROGRESS_FIELDS = frozenset(Progress.__dataclass_fields__)


def a_schedule(schedule_id: str = "s1", **changes: Any) -> ScheduleRow:
    """One that fires every minute from noon; changes may be of the row, of its spec or of its progress."""
    progress = {name: changes.pop(name) for name in PROGRESS_FIELDS & changes.keys()}
    spec = {name: changes.pop(name) for name in ScheduleSpec.__dataclass_fields__.keys() & changes.keys()}
    fields: dict[str, Any] = {
        "tenant": "t1",
        "name": f"name of {schedule_id}",
        "spec": replace(SPEC, **spec),
        "paused": False,
        "anchor": NOON,
        "revision": 1,
        "generation": 1,
        "created_at": NOON,
        "updated_at": NOON,
        "progress": Progress(**{"next_fire_at": NOON + 60, **progress}),
    }
    return ScheduleRow(id=schedule_id, **(fields | changes))


def changed(schedule: ScheduleRow, *, generations: int = 1, **progress: Any) -> ScheduleRow:
    """The same schedule written once more, with another progress."""
    return replace(
        schedule,
        generation=schedule.generation + generations,
        progress=replace(schedule.progress, **progress),
    )


def firing(schedule: ScheduleRow, *, previous_active: bool = False) -> FiringSchedule:
    return FiringSchedule(schedule=schedule, previous_active=previous_active)


def a_fire(fire_at: float = NOON, **changes: Any) -> Fire:
    fields: dict[str, Any] = {"outcome": "started", "at": fire_at, "run_id": "r1"}
    return Fire(fire_at=fire_at, **(fields | changes))
