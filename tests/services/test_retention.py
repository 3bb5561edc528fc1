"""What is deleted when, and that nothing stops it for good."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from app.ports.errors import StoreUnavailable
from app.ports.runs import RunRow, RunStatus
from app.services.retention import Retention
from app.stores.memory import MemoryStore
from tests.stores.samples import DEFINITION, NOON, a_run, an_answer, events

DAY = 86_400.0


class Noon:
    """A clock that stands."""

    machine = "test"

    def now(self) -> float:
        return NOON

    def uptime(self) -> float:
        return NOON


async def a_store() -> MemoryStore:
    store = MemoryStore(now=lambda: NOON)
    await store.open()
    return store


async def end(store: MemoryStore, run_id: str, days: float, status: RunStatus = "completed") -> None:
    run: RunRow = a_run(run_id, status=status, finished_at=NOON - days * DAY)
    await store.runs.create(run, events(1, 1, run_id), DEFINITION)


def retention(store: MemoryStore, *, keep_days: float | None, every: float = 0.0) -> Retention:
    return Retention(
        store,
        Noon(),
        keep_seconds=None if keep_days is None else keep_days * DAY,
        keep_answers_seconds=DAY,
        batch=2,
        pause=0.0,
        every=every,
    )


async def test_runs_are_kept_for_ever_unless_told_otherwise() -> None:
    store = await a_store()
    await end(store, "old", 10_000)
    await retention(store, keep_days=None).sweep()
    assert await store.runs.get("t1", "old") is not None


async def test_runs_that_are_younger_or_have_not_ended_stay() -> None:
    store = await a_store()
    await end(store, "young", 6.9)
    await store.runs.create(a_run("begun", status="waiting", created_at=0), events(1, 1, "begun"), DEFINITION)
    await retention(store, keep_days=7).sweep()
    assert await store.runs.get("t1", "young") is not None
    assert await store.runs.get("t1", "begun") is not None


async def test_a_pass_deletes_all_that_has_had_its_time_batch_by_batch() -> None:
    store = await a_store()
    for n in range(7):
        await end(store, f"r{n}", 8 + n, status="failed")
    with capture_logs() as logs:
        await retention(store, keep_days=7).sweep()
    assert [await store.runs.get("t1", f"r{n}") for n in range(7)] == [None] * 7
    assert [(line["event"], line["what"], line["count"]) for line in logs] == [
        ("retention.deleted", "runs", 7)
    ]


async def test_answers_and_cached_outputs_go_at_the_end_of_their_time() -> None:
    store = await a_store()
    await store.idempotency.save(an_answer("old", created_at=NOON - DAY - 1))
    await store.idempotency.save(an_answer("new", created_at=NOON - 1))
    for n in range(5):
        await store.cache.save("t1", f"k{n}", b"", expires_at=NOON - n)
    await store.cache.save("t1", "fresh", b"", expires_at=NOON + 1)
    await retention(store, keep_days=None).sweep()
    assert await store.idempotency.prune(NOON - DAY) == 0
    assert await store.idempotency.find("t1", "new") is not None
    assert await store.cache.prune(NOON, limit=9) == 0
    assert await store.cache.find("t1", "fresh", NOON) == b""


class RefusingStore(MemoryStore):
    """Refuses to delete runs a few times, then tells when it did."""

    def __init__(self, refusals: int) -> None:
        super().__init__(now=lambda: NOON)
        self.deleted = asyncio.Event()
        delete = self.runs.prune

        async def refuse_or_delete(finished_before: float, *, limit: int) -> int:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise StoreUnavailable("the disk is full: free space where data_dir is")
            count = await delete(finished_before, limit=limit)
            self.deleted.set()
            return count

        self.runs.prune = refuse_or_delete  # type: ignore[method-assign]  # stands in for a full disk


async def test_what_the_store_refuses_is_logged_and_done_by_a_later_pass() -> None:
    store = RefusingStore(refusals=2)
    await store.open()
    await end(store, "old", 8)
    await store.cache.save("t1", "k", b"", expires_at=NOON)
    with capture_logs() as logs:
        task = asyncio.create_task(retention(store, keep_days=7).run())
        async with asyncio.timeout(10):
            await store.deleted.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [line["what"] for line in logs if line["event"] == "retention.failed"] == ["runs", "runs"]
    assert await store.runs.get("t1", "old") is None
    assert await store.cache.prune(NOON, limit=9) == 0
