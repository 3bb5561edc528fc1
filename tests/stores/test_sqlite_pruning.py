"""How the SQLite store deletes: in bounded transactions, and nothing half in sight."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from app.ports.errors import AlreadyExists, StoreError
from app.ports.runs import Definition, JournalRow, StatusChange
from app.stores.sql.pruning import DEFINITIONS_A_CALL, MAX_BYTES, MAX_ROWS
from app.stores.sql.schema import DATABASE_FILE
from app.stores.sql.session import CHECKPOINT_PAGES
from app.stores.sql.sqlite import SqliteStore
from tests.stores.samples import DEFINITION, NOON, a_run, an_approval, an_event, events


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    await opened.open()
    yield opened
    await opened.close()


async def finished(store: SqliteStore, run_id: str, rows: list[JournalRow], age: float = 1.0) -> None:
    run = a_run(run_id, status="completed", finished_at=NOON - age, labels={"k": "v"})
    await store.runs.create(run, rows, DEFINITION)


async def journal_rows(store: SqliteStore) -> int:
    rows = await store._readers.rows("SELECT count(*) FROM journal", {})
    return int(rows[0][0])


async def test_a_large_journal_goes_in_parts_and_its_run_at_once(store: SqliteStore) -> None:
    await finished(store, "large", events(1, 2 * MAX_ROWS + 5, "large"), age=2.0)
    await finished(store, "small", events(1, 3, "small"))
    assert await store.runs.prune(NOON, limit=10) == 1
    assert await store.runs.get("t1", "large") is None
    assert await journal_rows(store) == MAX_ROWS + 5 + 3
    with pytest.raises(AlreadyExists):
        await store.runs.create(a_run("large"), events(1, 1, "large"), DEFINITION)
    assert await store.runs.prune(NOON, limit=10) == 1
    assert await store.runs.prune(NOON, limit=10) == 2
    assert await store.runs.prune(NOON, limit=10) == 0
    assert await journal_rows(store) == 0
    assert await store._readers.rows("SELECT * FROM pruned_journals", {}) == []


async def test_what_a_killed_process_left_of_a_journal_the_next_one_deletes(
    store: SqliteStore, tmp_path: Path
) -> None:
    await finished(store, "large", events(1, MAX_ROWS + 5, "large"))
    assert await store.runs.prune(NOON, limit=10) == 1
    other = SqliteStore(tmp_path)
    await other.open()
    assert await other.runs.prune(NOON, limit=10) == 1
    assert await journal_rows(store) == 0
    await other.close()


async def test_bytes_bound_a_transaction_too_but_one_event_always_goes(store: SqliteStore) -> None:
    payload = b'"' + b"x" * (MAX_BYTES + 1) + b'"'
    await finished(store, "huge", [an_event(seq, "huge", payload) for seq in (1, 2)])
    assert await store.runs.prune(NOON, limit=10) == 1
    assert await journal_rows(store) == 1
    assert await store.runs.prune(NOON, limit=10) == 1
    assert await journal_rows(store) == 0


async def test_another_process_s_deletion_of_a_definition_does_not_hurt_new_runs(
    store: SqliteStore, tmp_path: Path
) -> None:
    await finished(store, "r1", events(1, 1))
    other = SqliteStore(tmp_path)
    await other.open()
    assert await other.runs.prune(NOON, limit=10) == 1
    assert await other.runs.definition("d1") is None
    await store.runs.create(a_run("r2"), events(1, 1, "r2"), DEFINITION)
    assert await other.runs.definition("d1") == DEFINITION
    await other.close()


async def test_definitions_that_were_never_run_are_found_in_rounds(store: SqliteStore) -> None:
    kept = [Definition(hash=f"{n:064}", document=b"{}") for n in range(2 * DEFINITIONS_A_CALL)]
    for n, definition in enumerate(kept):
        run = a_run(f"r{n}", definition_hash=definition.hash)
        await store.runs.create(run, events(1, 1, run.id), definition)
    connection = store._session._connected()
    for unnamed in ("0" * 63 + "x", "f"):
        connection.execute("INSERT INTO definitions VALUES (?, '')", (unnamed,))
    for _ in range(3):
        assert await store.runs.prune(NOON, limit=10) == 0
    rows = await store._readers.rows("SELECT count(*) FROM definitions", {})
    assert rows == [(len(kept),)]


async def test_the_space_is_used_again_and_the_file_stays_sound(store: SqliteStore, tmp_path: Path) -> None:
    file = tmp_path / DATABASE_FILE
    sizes = []
    for life in range(4):
        for n in range(10):
            await finished(store, f"r{life}-{n}", events(1, 500, f"r{life}-{n}"))
        while await store.runs.prune(NOON, limit=3):
            pass
        store._session._pages = CHECKPOINT_PAGES
        store._session.checkpoint_if_due()
        sizes.append(file.stat().st_size)
    assert sizes[-1] < 1.2 * sizes[0]
    with closing(sqlite3.connect(file)) as other:
        assert other.execute("PRAGMA foreign_key_check").fetchall() == []
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert other.execute("SELECT count(*) FROM run_labels").fetchone() == (0,)


async def test_an_approval_that_cannot_be_stored_fails_its_own_write_only(store: SqliteStore) -> None:
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    change = StatusChange(status="waiting", approvals=[an_approval(form={"default": "\ud800"})])
    with pytest.raises(StoreError, match="'a1'"):
        await store.journal.append(events(2, 2), change)
    await store.journal.append(events(2, 2))
