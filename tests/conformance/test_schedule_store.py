"""What every store of schedules does, over each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists, StoreUnavailable
from app.ports.runs import StatusChange, Store
from app.ports.schedules import FireCounts, FiringSchedule
from tests.conformance.test_store import STORES
from tests.stores.samples import DEFINITION, NOON, a_run, an_answer, events
from tests.stores.schedule_samples import a_fire, a_schedule, changed


@pytest.fixture(params=sorted(STORES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    opened = STORES[request.param](tmp_path)
    await opened.open()
    yield opened
    await opened.close()


def ids(found: Sequence[FiringSchedule]) -> list[str]:
    return [firing.schedule.id for firing in found]


class TestSettings:
    async def test_a_taken_name_is_refused_and_nothing_is_stored(self, store: Store) -> None:
        await store.schedules.create(a_schedule(name="n"))
        with pytest.raises(AlreadyExists, match="'n'"):
            await store.schedules.create(a_schedule("s2", name="n"), an_answer())
        assert await store.schedules.get("t1", "s2") is None
        assert await store.idempotency.find("t1", "k1") is None
        await store.schedules.create(a_schedule("s3", tenant="t2", name="n"))

    async def test_a_taken_id_is_refused(self, store: Store) -> None:
        await store.schedules.create(a_schedule(name="n"))
        with pytest.raises(AlreadyExists, match="'s1'"):
            await store.schedules.create(a_schedule(name="m"))

    async def test_a_taken_key_keeps_the_schedule_out(self, store: Store) -> None:
        await store.idempotency.save(an_answer(body=b"first"))
        with pytest.raises(AlreadyExists, match="'k1'"):
            await store.schedules.create(a_schedule(), an_answer())
        assert await store.schedules.get("t1", "s1") is None

    async def test_a_schedule_comes_back_as_it_was_stored(self, store: Store) -> None:
        schedule = a_schedule(
            name="ün",
            workflow="w",
            version="1",
            inputs={"a": [1, {"b": None}]},
            labels={"k": "v"},
            interval_seconds=None,
            cron="0 9 * * *",
            time_zone="Europe/Berlin",
            overlap="queue",
            start_at=NOON + 0.5,
            timeout_seconds=1.5,
            queue=(NOON, NOON + 1),
            previous_run_id="r1",
            last_run_id="r2",
            fires=(a_fire(manual=True), a_fire(outcome="failed", run_id=None, detail="gone")),
            counts=FireCounts(started=1, failed=2, skipped=3, missed=4),
        )
        await store.schedules.create(schedule, an_answer())
        assert await store.schedules.get("t1", "s1") == schedule
        assert await store.schedules.by_name("t1", "ün") == schedule
        assert await store.idempotency.find("t1", "k1") == an_answer()
        await store.close()
        await store.open()
        assert await store.schedules.get("t1", "s1") == schedule

    async def test_tenants_do_not_see_or_disturb_one_another(self, store: Store) -> None:
        schedule = a_schedule(name="n")
        await store.schedules.create(schedule)
        assert await store.schedules.get("t2", "s1") is None
        assert await store.schedules.by_name("t2", "n") is None
        assert await store.schedules.list("t2", limit=10) == []
        assert not await store.schedules.delete("t2", "s1")
        assert not await store.schedules.update(replace(schedule, tenant="t2", generation=2))
        assert await store.schedules.advance([replace(schedule, tenant="t2", generation=2)]) == [False]
        assert await store.schedules.get("t1", "s1") == schedule

    async def test_lists_by_name_in_pages(self, store: Store) -> None:
        for name in ("c", "a", "b"):
            await store.schedules.create(a_schedule(f"s-{name}", name=name))
        page = await store.schedules.list("t1", limit=2)
        assert [row.name for row in page] == ["a", "b"]
        assert [row.name for row in await store.schedules.list("t1", limit=2, after="b")] == ["c"]

    async def test_a_change_on_top_of_another_ones_is_refused(self, store: Store) -> None:
        schedule = a_schedule()
        await store.schedules.create(schedule)
        assert await store.schedules.update(replace(schedule, generation=2, paused=True))
        assert not await store.schedules.update(replace(schedule, generation=2, name="other"))
        assert not await store.schedules.update(replace(schedule, generation=4))
        assert not await store.schedules.update(a_schedule("unknown", generation=2))
        assert await store.schedules.get("t1", "s1") == replace(schedule, generation=2, paused=True)

    async def test_a_change_may_not_take_another_ones_name(self, store: Store) -> None:
        schedule = a_schedule(name="n")
        await store.schedules.create(schedule)
        await store.schedules.create(a_schedule("s2", name="m"))
        with pytest.raises(AlreadyExists, match="'m'"):
            await store.schedules.update(replace(schedule, generation=2, name="m"))
        assert await store.schedules.update(replace(schedule, generation=2, name="o", revision=2))

    async def test_deleting_can_ask_for_a_revision(self, store: Store) -> None:
        await store.schedules.create(a_schedule())
        assert not await store.schedules.delete("t1", "s1", revision=2)
        assert await store.schedules.delete("t1", "s1", revision=1)
        assert not await store.schedules.delete("t1", "s1")
        await store.schedules.create(a_schedule())
        assert await store.schedules.delete("t1", "s1")

    async def test_a_closed_store_refuses(self, store: Store) -> None:
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.schedules.create(a_schedule())
        with pytest.raises(StoreUnavailable):
            await store.schedules.due(NOON, limit=1)
        await store.open()


class TestFiring:
    async def test_progress_is_stored_for_many_and_refused_one_by_one(self, store: Store) -> None:
        rows = [a_schedule(f"s{number}") for number in range(3)]
        for row in rows:
            await store.schedules.create(row)
        await store.schedules.update(replace(rows[1], generation=2, paused=True))
        later = [changed(row, next_fire_at=NOON + 120, queue=(NOON + 60,)) for row in rows]
        assert await store.schedules.advance([*later, a_schedule("gone", generation=2)]) == [
            True,
            False,
            True,
            False,
        ]
        assert [await store.schedules.get("t1", row.id) for row in rows] == [
            later[0],
            replace(rows[1], generation=2, paused=True),
            later[2],
        ]
        assert await store.schedules.advance([]) == []

    async def test_progress_leaves_the_settings_alone(self, store: Store) -> None:
        row = a_schedule(name="n")
        await store.schedules.create(row)
        await store.schedules.advance([replace(changed(row, next_fire_at=None), name="other", paused=True)])
        assert await store.schedules.get("t1", "s1") == changed(row, next_fire_at=None)

    async def test_of_two_deciders_one_wins(self, store: Store) -> None:
        row = a_schedule()
        await store.schedules.create(row)
        answers = await asyncio.gather(
            *(store.schedules.advance([changed(row, next_fire_at=NOON + number)]) for number in range(10))
        )
        assert sum(answer == [True] for answer in answers) == 1

    async def test_due_are_those_whose_time_has_come_the_longest_due_first(self, store: Store) -> None:
        times = {"b": NOON + 2, "a": NOON + 2, "c": NOON + 1, "later": NOON + 3, "never": None}
        for schedule_id, next_fire_at in times.items():
            await store.schedules.create(a_schedule(schedule_id, next_fire_at=next_fire_at))
        assert ids(await store.schedules.due(NOON, limit=9)) == []
        assert ids(await store.schedules.due(NOON + 2, limit=9)) == ["c", "a", "b"]
        assert ids(await store.schedules.due(NOON + 9, limit=2)) == ["c", "a"]
        assert await store.schedules.next_fire_at() == NOON + 1

    async def test_without_schedules_nothing_comes_next(self, store: Store) -> None:
        assert await store.schedules.next_fire_at() is None
        await store.schedules.create(a_schedule(next_fire_at=None))
        assert await store.schedules.next_fire_at() is None

    async def test_what_comes_with_a_due_schedule_is_whether_its_run_before_is_active(
        self, store: Store
    ) -> None:
        await store.runs.create(a_run("r1", status="running"), events(1, 1), DEFINITION)
        for schedule_id, run_id in {"a": None, "b": "r1", "c": "pruned"}.items():
            await store.schedules.create(a_schedule(schedule_id, previous_run_id=run_id))
        due = await store.schedules.due(NOON + 60, limit=9)
        assert [firing.previous_active for firing in due] == [False, True, False]
        await store.journal.append(events(2, 2), StatusChange(status="completed", finished_at=NOON))
        due = await store.schedules.due(NOON + 60, limit=9)
        assert not any(firing.previous_active for firing in due)

    @pytest.mark.parametrize(
        ("status", "overlap", "startable"),
        [
            (None, "queue", True),
            ("completed", "queue", True),
            ("timed_out", "cancel_previous", True),
            ("pending", "queue", False),
            ("waiting", "skip", False),
            ("paused", "cancel_previous", True),
            ("cancelling", "cancel_previous", False),
        ],
    )
    async def test_a_queued_fire_waits_for_the_run_before_or_for_its_cancelling(
        self, store: Store, status: str | None, overlap: str, startable: bool
    ) -> None:
        if status is not None:
            await store.runs.create(a_run("r1", status=status), events(1, 1), DEFINITION)
        await store.schedules.create(a_schedule(overlap=overlap, previous_run_id="r1", queue=(NOON,)))
        found = await store.schedules.startable(limit=9)
        assert ids(found) == (["s1"] if startable else [])
        assert [firing.previous_active for firing in found] == ([status == "paused"] if startable else [])

    async def test_nothing_starts_of_a_paused_or_empty_queue(self, store: Store) -> None:
        await store.schedules.create(a_schedule("paused", queue=(NOON,), paused=True))
        await store.schedules.create(a_schedule("empty"))
        assert await store.schedules.startable(limit=9) == []

    async def test_queued_fires_come_oldest_first_in_pages(self, store: Store) -> None:
        for schedule_id, oldest in {"b": NOON, "a": NOON, "c": NOON - 1}.items():
            await store.schedules.create(a_schedule(schedule_id, queue=(oldest, NOON + 9)))
        assert ids(await store.schedules.startable(limit=2)) == ["c", "a"]
        assert ids(await store.schedules.startable(limit=2, after=(NOON, "a"))) == ["b"]
        assert await store.schedules.startable(limit=2, after=(NOON, "b")) == []
