"""Use cases around schedules see one tenant only, and get along with the ticker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from app.ports.errors import StoreUnavailable
from app.ports.runs import RunRow
from app.ports.schedules import ScheduleSpec
from app.services.errors import ScheduleBusy, ScheduleNotFound, VersionMismatch
from app.services.idempotency import Answer
from app.services.principal import Principal
from app.services.schedule_changes import ScheduleRequest
from app.services.schedule_views import ScheduleView
from app.services.schedules import ScheduleService
from tests.api.harness import services_of
from tests.engines.harness import Bench, bench
from tests.services.test_schedule_ticker import register

ADA = Principal(tenant="t1", subject="ada", roles=frozenset({"admin"}))
BOB = Principal(tenant="t2", subject="bob", roles=frozenset({"admin"}))
REQUEST = ScheduleRequest(name="n", spec=ScheduleSpec(workflow="test", interval_seconds=60))


def receipt(view: ScheduleView) -> Answer:
    return Answer(status_code=201, body=view.row.id.encode())


def run_receipt(run: RunRow) -> Answer:
    return Answer(status_code=202, body=run.id.encode())


@pytest.fixture
async def engine() -> AsyncIterator[Bench]:
    async with bench() as started:
        await register(started)
        yield started


@pytest.fixture
def schedules(engine: Bench) -> ScheduleService:
    return services_of(engine).schedules


async def created(schedules: ScheduleService) -> str:
    answer, _ = await schedules.create(ADA, REQUEST, receipt)
    return answer.body.decode()


async def test_another_tenants_schedule_does_not_exist(schedules: ScheduleService) -> None:
    schedule_id = await created(schedules)
    with pytest.raises(ScheduleNotFound):
        await schedules.get(BOB, schedule_id)
    with pytest.raises(ScheduleNotFound):
        await schedules.replace(BOB, schedule_id, REQUEST, if_match=None)
    with pytest.raises(ScheduleNotFound):
        await schedules.pause(BOB, schedule_id, receipt)
    with pytest.raises(ScheduleNotFound):
        await schedules.resume(BOB, schedule_id, receipt)
    with pytest.raises(ScheduleNotFound):
        await schedules.trigger(BOB, schedule_id, run_receipt)
    with pytest.raises(ScheduleNotFound):
        await schedules.delete(BOB, schedule_id, if_match=None)
    assert (await schedules.list(BOB, limit=10, cursor=None)).items == []
    assert (await schedules.get(ADA, schedule_id)).state == "active"


async def test_a_change_that_never_meets_the_row_it_read_gives_up(
    engine: Bench, schedules: ScheduleService
) -> None:
    schedule_id = await created(schedules)
    store = engine.store.schedules
    get = store.get

    async def written_meanwhile(tenant: str, wanted: str) -> object:
        row = await get(tenant, wanted)
        if row is not None:
            await store.advance([replace(row, generation=row.generation + 1)])
        return row

    store.get = written_meanwhile  # type: ignore[method-assign,assignment]  # a ticker at the worst times
    with pytest.raises(ScheduleBusy):
        await schedules.pause(ADA, schedule_id, receipt)


@pytest.mark.parametrize(
    ("if_match", "gone"), [('"1"', False), ('"1", "2"', False), ("*", True), (None, True)]
)
async def test_a_deletion_that_meets_a_change_is_done_or_refused(
    engine: Bench, schedules: ScheduleService, if_match: str | None, *, gone: bool
) -> None:
    schedule_id = await created(schedules)
    store = engine.store.schedules
    delete = store.delete

    async def changed_before(tenant: str, wanted: str, *, revision: int | None = None) -> bool:
        row = await store.get(tenant, wanted)
        assert row is not None
        await store.update(replace(row, revision=row.revision + 1, generation=row.generation + 1))
        return await delete(tenant, wanted, revision=revision)

    store.delete = changed_before  # type: ignore[method-assign,assignment]  # somebody else at the worst time
    if gone:
        await schedules.delete(ADA, schedule_id, if_match=if_match)
    else:
        with pytest.raises(VersionMismatch):
            await schedules.delete(ADA, schedule_id, if_match=if_match)
    assert (await store.get("t1", schedule_id) is None) is gone


async def test_a_run_that_was_triggered_is_told_though_its_schedule_cannot_be(
    engine: Bench, schedules: ScheduleService
) -> None:
    schedule_id = await created(schedules)

    async def full(rows: object) -> list[bool]:
        raise StoreUnavailable("full")

    engine.store.schedules.advance = full  # type: ignore[method-assign,assignment]  # a store that breaks
    answer, replayed = await schedules.trigger(ADA, schedule_id, run_receipt)
    assert not replayed
    assert (await engine.finish(answer.body.decode())).status == "completed"


async def test_the_ticker_is_told_of_changes(engine: Bench) -> None:
    changes: list[None] = []
    given = services_of(engine)
    schedules = given.schedules
    schedules._changed = lambda: changes.append(None)
    schedule_id = await created(schedules)
    await schedules.pause(ADA, schedule_id, receipt)
    assert len(changes) == 2
    await schedules.pause(ADA, schedule_id, receipt)
    assert len(changes) == 2
