"""The writer of the SQLite store: batches, poison, outages, healing, rivals in other processes."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists, Fenced, StoreError, StoreUnavailable
from app.ports.runs import JournalRow, RunRow, StatusChange
from app.ports.turns import SHORT_SECONDS
from app.stores.sql import store as sql_store
from app.stores.sql.schema import DATABASE_FILE
from app.stores.sql.session import CHECKPOINT_PAGES
from app.stores.sql.sqlite import SqliteStore
from tests.stores.samples import DEFINITION, NOON, a_run, a_workflow, an_answer, an_event, events


class Batches:
    """A commit observer that keeps what it was told."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()

    def committed(self, batch_size: int, seconds: float) -> None:
        assert 0 < seconds < 60
        self.sizes.append(batch_size)
        self.threads.add(threading.get_ident())


@pytest.fixture
def batches() -> Batches:
    return Batches()


@pytest.fixture
async def store(tmp_path: Path, batches: Batches) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path, observer=batches)
    await opened.open()
    yield opened
    await opened.close()


def big(seq: int, run_id: str = "r1", size: int = 200_000) -> JournalRow:
    return an_event(seq, run_id, payload=b'"' + b"x" * size + b'"')


@contextmanager
def full_disk(store: SqliteStore) -> Iterator[None]:
    """SQLite's own limit on the size of a database stands in for the disk's."""
    connection = store._session._connected()
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages}")
    yield
    connection.execute("PRAGMA max_page_count=1073741823")


@contextmanager
def no_file_may_grow_beyond(size: int) -> Iterator[None]:
    """Writes past this offset fail with an I/O error, as on a broken volume."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_refuses_the_write_keeps_the_rest_and_heals(store: SqliteStore) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    with full_disk(store):
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await store.journal.append([big(2)], StatusChange(status="failed"))
        with pytest.raises(StoreUnavailable, match="disk is full"):
            await store.runs.create(a_run("r2"), [big(1, "r2")], DEFINITION)
        with pytest.raises(StoreUnavailable, match="data_dir"):
            await store.check()
        assert await store.runs.get("t1", "r1") == a_run()
        assert await store.journal.read("r1") == events(1, 1)
    await store.journal.append([big(2)])
    await store.runs.create(a_run("r2"), [big(1, "r2")], DEFINITION)
    assert len(await store.journal.read("r1")) == 2


async def test_an_io_error_refuses_the_batch_and_a_new_connection_heals(
    store: SqliteStore, tmp_path: Path
) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    before = store._session._connection
    with no_file_may_grow_beyond((tmp_path / f"{DATABASE_FILE}-wal").stat().st_size):
        writes = [store.journal.append([big(2)]), store.runs.create(a_run("r2"), [], DEFINITION)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert all(isinstance(result, StoreUnavailable) for result in results), results
        assert await store.journal.read("r1") == events(1, 1)
    await store.journal.append([big(2)])
    assert store._session._connection is not before
    assert await store.runs.get("t1", "r2") is None
    assert len(await store.journal.read("r1")) == 2


async def test_a_check_is_answered_from_memory_within_a_second(store: SqliteStore) -> None:
    await store.check()
    with full_disk(store):
        await store.check()


async def test_callers_who_give_up_on_a_check_leave_one_write_behind(store: SqliteStore) -> None:
    hold = threading.Event()
    hanging = asyncio.ensure_future(store._writer.run(lambda _: hold.wait(30)))
    await asyncio.sleep(0)
    try:
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(store.check(), 0.01)
        assert store.waiting == 2
    finally:
        hold.set()
    await store.check()
    await hanging
    assert store.waiting == 0


async def test_a_check_of_a_hanging_disk_says_so_and_adds_no_write(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_store, "CHECK_TIMEOUT_SECONDS", 0.02)
    monkeypatch.setattr(sql_store, "CHECK_EVERY_SECONDS", 0.0)
    hold = threading.Event()
    hanging = asyncio.ensure_future(store._writer.run(lambda _: hold.wait(30)))
    await asyncio.sleep(0)
    try:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="check the volume"):
                await store.check()
        assert store.waiting == 2
    finally:
        hold.set()
    await hanging


@pytest.mark.parametrize(
    "poison",
    [
        pytest.param(a_run("bad", priority=2**70), id="number over 64 bits"),
        pytest.param(a_run("bad", workflow="\ud800"), id="lone surrogate in a column"),
        pytest.param(a_run("bad", labels={"k": "\ud800"}), id="lone surrogate in JSON"),
        pytest.param(a_run("bad", workflow=None), id="null"),
    ],
)
async def test_a_write_that_cannot_be_stored_fails_alone(store: SqliteStore, poison: RunRow) -> None:
    creates = [store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION) for n in range(40)]
    creates.insert(17, store.runs.create(poison, events(1, 1, "bad"), DEFINITION))
    results = await asyncio.gather(*creates, return_exceptions=True)
    refused = results.pop(17)
    assert isinstance(refused, StoreError)
    assert not isinstance(refused, StoreUnavailable)
    assert results == [None] * 40
    assert await store.runs.count(frozenset({"pending"})) == 40
    assert await store.journal.read("bad") == []


async def test_an_unstorable_registration_is_refused(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="cannot be stored"):
        await store.workflows.register(a_workflow(name="\ud800"), DEFINITION)
    with pytest.raises(StoreError, match="labels"):
        await store.workflows.register(a_workflow(labels={"k": "\ud800"}), DEFINITION)
    assert (await store.workflows.register(a_workflow(), DEFINITION)).revision == 1


async def test_another_process_s_append_fences_this_one(store: SqliteStore, tmp_path: Path) -> None:
    await store.runs.create(a_run(), events(1, 2), DEFINITION)
    await store.runs.create(a_run("r2"), events(1, 2, "r2"), DEFINITION)
    rival = SqliteStore(tmp_path)
    await rival.open()
    await rival.journal.append(events(3, 4))
    results = await asyncio.gather(
        store.journal.append(events(3, 3)),
        store.journal.append(events(3, 3, "r2")),
        return_exceptions=True,
    )
    assert isinstance(results[0], Fenced)
    assert results[1] is None
    await store.journal.append(events(5, 5))
    with pytest.raises(Fenced):
        await rival.journal.append(events(5, 5))
    await rival.close()
    assert await store.journal.read("r1") == events(1, 5)


async def test_two_processes_share_ids_keys_and_definitions(store: SqliteStore, tmp_path: Path) -> None:
    rival = SqliteStore(tmp_path)
    await rival.open()
    await rival.runs.create(a_run(), events(1, 1), DEFINITION, an_answer())
    creates = [
        store.runs.create(a_run(), events(1, 1), DEFINITION),
        store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION, an_answer()),
        store.runs.create(a_run("r3"), events(1, 1, "r3"), DEFINITION, an_answer("k2")),
    ]
    results = await asyncio.gather(*creates, return_exceptions=True)
    assert [type(result) for result in results] == [AlreadyExists, AlreadyExists, type(None)]
    await rival.close()


async def test_waiting_writes_go_out_together_and_are_counted(store: SqliteStore, batches: Batches) -> None:
    creates = [
        asyncio.create_task(store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION))
        for n in range(500)
    ]
    await asyncio.sleep(0)
    assert store.waiting == 500
    await asyncio.gather(*creates)
    assert store.waiting == 0
    assert batches.sizes == [500]
    assert batches.threads == {threading.get_ident()}


async def test_ten_thousand_concurrent_appends_keep_every_journal_whole(store: SqliteStore) -> None:
    async def drive(run_id: str) -> None:
        await store.runs.create(a_run(run_id), events(1, 1, run_id), DEFINITION)
        for seq in range(2, 42, 2):
            change = StatusChange(status="running", started_at=NOON) if seq == 2 else None
            await store.journal.append(events(seq, seq + 1, run_id), change)

    names = [f"r{n}" for n in range(500)]
    await asyncio.gather(*(drive(name) for name in names))
    for name in names:
        assert await store.journal.read(name) == events(1, 41, name)
    assert await store.runs.count(frozenset({"running"})) == 500


async def test_the_write_ahead_log_stays_bounded(store: SqliteStore, tmp_path: Path) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    log = tmp_path / f"{DATABASE_FILE}-wal"
    sizes = []
    for seq in range(2, 300):
        await store.journal.append([big(seq)])
        sizes.append(log.stat().st_size)
    written = 298 * 200_000
    assert written > 3 * CHECKPOINT_PAGES * 4096
    assert max(sizes) < 1.5 * CHECKPOINT_PAGES * 4096


async def test_readers_cannot_write(store: SqliteStore) -> None:
    with pytest.raises(StoreError):
        await store._readers.run(lambda connection: connection.execute("DELETE FROM journal"))
    assert await store.journal.read("nobody") == []


async def test_every_write_is_synced_and_foreign_keys_hold(store: SqliteStore, tmp_path: Path) -> None:
    connection = store._session._connected()
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "wal_autocheckpoint": 0}
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    with closing(sqlite3.connect(tmp_path / DATABASE_FILE)) as other:
        assert other.execute("PRAGMA foreign_key_check").fetchall() == []
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_store_may_be_closed_twice(store: SqliteStore) -> None:
    await store.close()
    await store.close()


async def test_a_write_of_its_own_shares_the_interpreter(store: SqliteStore) -> None:
    seconds = await store._writer.run(lambda _: sys.getswitchinterval())
    assert round(seconds, 6) == SHORT_SECONDS
    assert round(sys.getswitchinterval(), 6) != SHORT_SECONDS
