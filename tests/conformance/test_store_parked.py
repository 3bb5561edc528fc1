"""What every store does with runs that wait: when they are due, who wakes them, what they share."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.ports.runs import RunRow, RunStatus, StatusChange, Store
from tests.conformance.test_store import STORES
from tests.stores.samples import DEFINITION, NOON, a_run, events


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


async def create(store: Store, *runs: RunRow) -> None:
    for run in runs:
        await store.runs.create(run, events(1, 1, run.id), DEFINITION)


async def park(store: Store, run_id: str, wake_at: float | None, status: RunStatus = "waiting") -> None:
    await create(store, a_run(run_id, status="running"))
    await store.journal.append(events(2, 2, run_id), a_change(status, wake_at=wake_at))


def a_change(status: RunStatus, *, wake_at: float | None = None, wakes: str | None = None) -> StatusChange:
    return StatusChange(status=status, wake_at=wake_at, wakes=wakes)


async def due(store: Store, now: float = NOON, limit: int = 100) -> list[str]:
    return [run.id for run in await store.runs.due(now, limit=limit)]


class TestDue:
    async def test_runs_under_way_or_ended_or_without_a_time_are_never_due(self, store: Store) -> None:
        await park(store, "only-events", None)
        await park(store, "no-time", math.inf)
        await park(store, "ended", NOON - 1, status="completed")
        await park(store, "under-way", NOON - 1, status="running")
        assert await due(store, 2 * NOON) == []
        assert await store.runs.next_wake() is None

    async def test_due_runs_come_earliest_first_whoever_they_belong_to(self, store: Store) -> None:
        await park(store, "later", NOON + 1)
        await park(store, "second", NOON, status="paused")
        await park(store, "first", NOON - 5, status="cancelling")
        await park(store, "tie", NOON)
        assert await due(store) == ["first", "second", "tie"]
        assert await due(store, limit=1) == ["first"]
        assert await due(store, NOON - 6) == []
        assert await store.runs.next_wake() == NOON - 5

    async def test_every_change_sets_the_time_anew(self, store: Store) -> None:
        await park(store, "r1", NOON)
        await store.journal.append(events(3, 3), a_change("running"))
        assert await due(store) == []
        await store.journal.append(events(4, 4), a_change("waiting", wake_at=NOON + 2))
        await store.journal.append(events(5, 5))
        assert await store.runs.next_wake() == NOON + 2

    async def test_changes_in_one_batch_leave_the_last_time(self, store: Store) -> None:
        await create(store, a_run())
        await asyncio.gather(
            store.journal.append(events(2, 2), a_change("waiting", wake_at=NOON)),
            store.journal.append(events(3, 3), a_change("waiting", wake_at=NOON + 1)),
        )
        assert await store.runs.next_wake() == NOON + 1

    async def test_a_run_may_be_parked_from_its_first_events_on(self, store: Store) -> None:
        run = a_run(status="waiting")
        change = a_change("waiting", wake_at=NOON)
        await store.runs.create(run, events(1, 3), DEFINITION, change=change)
        assert await due(store) == ["r1"]
        assert await store.runs.get("t1", "r1") == run

    async def test_times_survive_a_restart(self, store: Store) -> None:
        await park(store, "r1", NOON)
        await store.close()
        await store.open()
        assert await due(store) == ["r1"]


class TestWakes:
    @pytest.mark.parametrize(
        ("status", "wake_at"),
        [("running", None), ("paused", math.inf), ("cancelling", None), ("completed", None)],
    )
    async def test_a_caller_that_is_not_parked_is_left_alone(
        self, store: Store, status: RunStatus, wake_at: float | None
    ) -> None:
        await park(store, "caller", wake_at, status=status)
        await create(store, a_run("child", parent_run_id="caller"))
        await store.journal.append(events(2, 2, "child"), a_change("completed", wakes="caller"))
        await store.journal.append(events(3, 3, "child"), a_change("completed", wakes="nobody"))
        assert await due(store) == []

    @pytest.mark.parametrize(
        ("status", "wake_at"),
        [("waiting", None), ("waiting", math.inf), ("waiting", NOON + 9), ("cancelling", math.inf)],
    )
    async def test_the_end_of_a_child_makes_its_parked_caller_due(
        self, store: Store, status: RunStatus, wake_at: float | None
    ) -> None:
        await park(store, "caller", wake_at, status=status)
        await park(store, "bystander", math.inf)
        await create(store, a_run("child", parent_run_id="caller"))
        await store.journal.append(events(2, 2, "child"), a_change("failed", wakes="caller"))
        assert await due(store) == ["caller"]
        assert await store.runs.next_wake() == 0

    async def test_a_fenced_end_wakes_nobody(self, store: Store) -> None:
        await park(store, "caller", None)
        await create(store, a_run("child"))
        lost = store.journal.append(events(7, 7, "child"), a_change("completed", wakes="caller"))
        await asyncio.gather(lost, return_exceptions=True)
        assert await due(store) == []

    @pytest.mark.parametrize("parked_first", [True, False])
    async def test_within_one_batch_only_a_caller_that_was_parked_before_wakes(
        self, store: Store, parked_first: bool
    ) -> None:
        await create(store, a_run("caller", status="running"), a_run("child"))
        parking = store.journal.append(events(2, 2, "caller"), a_change("waiting", wake_at=NOON + 9))
        ending = store.journal.append(events(2, 2, "child"), a_change("completed", wakes="caller"))
        await asyncio.gather(*((parking, ending) if parked_first else (ending, parking)))
        assert await due(store) == (["caller"] if parked_first else [])

    async def test_a_caller_taken_up_after_the_wake_in_one_batch_is_not_due_again(self, store: Store) -> None:
        await park(store, "caller", None)
        await create(store, a_run("child"))
        await asyncio.gather(
            store.journal.append(events(2, 2, "child"), a_change("completed", wakes="caller")),
            store.journal.append(events(3, 3, "caller"), a_change("running")),
        )
        assert await due(store) == []

    async def test_a_child_that_ends_as_it_is_created_wakes_its_caller(self, store: Store) -> None:
        await park(store, "caller", math.inf)
        child = a_run("child", status="completed", finished_at=NOON, parent_run_id="caller")
        change = a_change("completed", wakes="caller")
        await store.runs.create(child, events(1, 2, "child"), DEFINITION, change=change)
        assert await due(store) == ["caller"]
        assert await store.runs.get("t1", "child") == child

    async def test_all_that_wait_for_a_time_can_be_woken_together(self, store: Store) -> None:
        await park(store, "no-time", math.inf)
        await park(store, "under-way", NOON + 9, status="running")
        await park(store, "ended", NOON + 9, status="completed")
        await park(store, "waits", NOON + 9)
        await park(store, "paused", NOON + 9, status="paused")
        await park(store, "cancelled", NOON + 9, status="cancelling")
        assert await store.runs.wake_parked() == 3
        assert sorted(await due(store)) == ["cancelled", "paused", "waits"]

    async def test_after_a_crash_callers_of_ended_children_are_woken(self, store: Store) -> None:
        await park(store, "caller", math.inf)
        await park(store, "cancelled", math.inf, status="cancelling")
        await park(store, "hopeful", None)
        await create(
            store,
            a_run("under-way", status="cancelling"),
            a_run("c1", status="completed", parent_run_id="caller"),
            a_run("c2", status="failed", parent_run_id="caller"),
            a_run("c3", status="cancelled", parent_run_id="cancelled"),
            a_run("c4", status="running", parent_run_id="hopeful"),
            a_run("c5", status="completed", parent_run_id="under-way"),
            a_run("c6", status="completed", parent_run_id="gone"),
        )
        assert await store.runs.wake_callers() == 2
        assert await due(store) == ["caller", "cancelled"]

    async def test_callers_of_children_that_ended_long_ago_can_be_left_asleep(self, store: Store) -> None:
        await park(store, "of-old", math.inf)
        await park(store, "of-new", math.inf)
        await create(
            store,
            a_run("c1", status="completed", parent_run_id="of-old", finished_at=NOON),
            a_run("c2", status="completed", parent_run_id="of-new", finished_at=NOON),
            a_run("c3", status="failed", parent_run_id="of-new", finished_at=NOON + 2),
        )
        assert await store.runs.wake_callers(ended_after=NOON + 1) == 1
        assert await due(store) == ["of-new"]


class TestKeys:
    async def test_runs_that_were_never_begun_or_have_ended_hold_no_place(self, store: Store) -> None:
        await create(
            store,
            a_run("r1", concurrency_key="k"),
            a_run("r2", concurrency_key="k", status="failed", started_at=NOON),
            a_run("r3", status="running", started_at=NOON),
            a_run("r4", concurrency_key="k", status="paused"),
        )
        assert await store.runs.active_by_concurrency_key() == {}

    async def test_places_go_by_tenant_workflow_and_key_in_the_order_of_the_begins(
        self, store: Store
    ) -> None:
        await create(
            store,
            a_run("r1", status="running", started_at=NOON + 2, concurrency_key="k"),
            a_run("r2", status="waiting", started_at=NOON + 1, concurrency_key="k"),
            a_run("r3", status="paused", started_at=NOON, concurrency_key="other"),
            a_run("r4", status="cancelling", started_at=NOON, concurrency_key="k", workflow="x"),
            a_run("r5", status="running", started_at=NOON, concurrency_key="k", tenant="t2"),
        )
        assert await store.runs.active_by_concurrency_key() == {
            ("t1", "w", "k"): ["r2", "r1"],
            ("t1", "w", "other"): ["r3"],
            ("t1", "x", "k"): ["r4"],
            ("t2", "w", "k"): ["r5"],
        }

    async def test_all_but_the_newest_runs_of_a_key_are_overtaken(self, store: Store) -> None:
        runs = [
            a_run("r1", status="running", started_at=NOON + 9, created_at=NOON, concurrency_key="k"),
            a_run("r2", status="paused", created_at=NOON + 1, concurrency_key="k"),
            a_run("r3", created_at=NOON + 2, concurrency_key="k"),
            a_run("r4", created_at=NOON + 2, concurrency_key="k"),
        ]
        await create(
            store,
            *runs,
            a_run("r5", concurrency_key="other"),
            a_run("r6", concurrency_key="k", tenant="t2"),
            a_run("r7", concurrency_key="k", workflow="x"),
            a_run("r8", concurrency_key="k", status="completed", created_at=NOON + 3),
        )
        overtaken = store.runs.overtaken
        assert await overtaken("t1", "w", "k", keep=4, limit=9) == []
        assert await overtaken("t1", "w", "k", keep=1, limit=9) == [runs[2], runs[1], runs[0]]
        assert await overtaken("t1", "w", "k", keep=1, limit=2) == [runs[2], runs[1]]

    async def test_statuses_are_read_for_many_at_once(self, store: Store) -> None:
        await create(store, a_run("r1"), a_run("r2", tenant="t2", status="failed"))
        assert await store.runs.statuses([]) == {}
        assert await store.runs.statuses(["r1", "r9", "r2"]) == {"r1": "pending", "r2": "failed"}


class TestChildren:
    async def test_another_tenant_s_children_do_not_exist(self, store: Store) -> None:
        await create(store, a_run("c1", parent_run_id="r1"))
        assert await store.runs.children("t2", "r1") == []
        assert await store.runs.children("t1", "r2") == []

    async def test_children_come_oldest_first(self, store: Store) -> None:
        runs = [
            a_run("c2", parent_run_id="r1", created_at=NOON),
            a_run("c3", parent_run_id="r1", created_at=NOON),
            a_run("c1", parent_run_id="r1", created_at=NOON + 1, status="completed"),
        ]
        await create(store, *reversed(runs))
        assert await store.runs.children("t1", "r1") == runs
