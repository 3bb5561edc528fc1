"""A file of an earlier schema version is opened, upgraded in place, and its runs go on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.ports.errors import StoreError
from app.ports.index_contracts import IndexContract
from app.ports.runs import RunFilter, StatusChange
from app.stores.sql.schema import DATABASE_FILE, SCHEMA_VERSION
from app.stores.sql.sqlite import SqliteStore
from app.stores.sql.text import load_sql
from tests.stores.samples import DEFINITION, NOON, a_run, a_workflow, events

EARLIER = range(1, SCHEMA_VERSION)


def schema_of(version: int) -> str:
    return Path(__file__).with_name(f"schema_{version}.sql").read_text(encoding="utf-8")


@pytest.fixture(params=EARLIER)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def earlier(tmp_path: Path, version: int) -> Path:
    """A database as an earlier release left it: a finished run, one that is under way, a workflow."""
    path = tmp_path / DATABASE_FILE
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.executescript(schema_of(version))
        connection.execute("INSERT INTO schema_version VALUES (?)", (version,))
        connection.execute("INSERT INTO write_probe VALUES (1, zeroblob(1))")
        connection.execute("INSERT INTO definitions VALUES ('d1', ?)", (DEFINITION.document,))
        for run_id, status, finished_at in (("r1", "running", None), ("r2", "failed", NOON - 5)):
            connection.execute(
                "INSERT INTO runs (id, tenant, workflow, version, status, definition_hash, priority, labels, "
                "created_at, started_at, finished_at) "
                "VALUES (?, 't1', 'w', '1', ?, 'd1', 0, '{\"team\":\"a\"}', ?, ?, ?)",
                (run_id, status, NOON, NOON, finished_at),
            )
            connection.execute("INSERT INTO run_labels VALUES ('t1', 'team', 'a', ?, ?)", (NOON, run_id))
            for row in events(1, 2, run_id):
                connection.execute(
                    "INSERT INTO journal VALUES (?, ?, ?, ?, ?)",
                    (row.run_id, row.seq, row.type, row.payload, row.at),
                )
        connection.execute("INSERT INTO workflows VALUES ('t1', 'w', '1', 1, 'd1', NULL, '{}', ?)", (NOON,))
    return path


def _shape(path: Path) -> Iterator[tuple[str, ...]]:
    """Tables with their columns, and indexes by their text; the order of columns is of no account."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
        for kind, name, text in connection.execute(query).fetchall():
            columns = connection.execute(
                'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (name,)
            )
            rows = sorted(map(str, columns.fetchall()))
            yield (kind, name, *(rows if kind == "table" else [text]))


async def test_runs_of_an_earlier_release_go_on(earlier: Path) -> None:
    store = SqliteStore(earlier.parent)
    await store.open()
    labels = {"team": "a"}
    run = a_run(status="running", started_at=NOON, labels=labels)
    assert await store.runs.get("t1", "r1") == run
    assert [row.id for row in await store.runs.list("t1", RunFilter(labels=labels), limit=9)] == ["r2", "r1"]
    assert await store.workflows.get("t1", "w") == a_workflow(revision=1)
    await store.journal.append(events(3, 3), StatusChange(status="waiting", wake_at=NOON))
    assert [row.id for row in await store.runs.due(NOON, limit=9)] == ["r1"]
    child = a_run("r3", parent_run_id="r1", concurrency_key="k")
    await store.runs.create(child, events(1, 1, "r3"), DEFINITION)
    assert await store.runs.children("t1", "r1") == [child]
    assert await store.runs.prune(NOON, limit=9) == 1
    assert await store.journal.read("r1") == events(1, 3)
    contract = IndexContract(database="d", index="i", model="m", dimensions=3, metric="cosine")
    assert await store.index_contracts.remember(contract) == contract
    await store.close()


def test_an_upgraded_file_has_the_shape_of_a_new_one_and_is_sound(earlier: Path, tmp_path: Path) -> None:
    async def once(data_dir: Path) -> None:
        store = SqliteStore(data_dir)
        await store.open()
        await store.close()

    for _ in range(2):
        asyncio.run(once(earlier.parent))
    asyncio.run(once(tmp_path / "new"))
    assert sorted(_shape(earlier)) == sorted(_shape(tmp_path / "new" / DATABASE_FILE))
    with closing(sqlite3.connect(earlier)) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(SCHEMA_VERSION,)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_failed_upgrade_leaves_the_file_as_it_was(earlier: Path, version: int) -> None:
    before = sorted(_shape(earlier))
    with closing(sqlite3.connect(earlier)) as connection, connection:
        connection.execute("CREATE VIEW index_contracts AS SELECT 1")
    with pytest.raises(StoreError, match="cannot open"):
        asyncio.run(SqliteStore(earlier.parent).open())
    with closing(sqlite3.connect(earlier)) as connection, connection:
        connection.execute("DROP VIEW index_contracts")
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(version,)]
    assert sorted(_shape(earlier)) == before


async def test_many_processes_may_upgrade_one_file_at_once(earlier: Path) -> None:
    stores = [SqliteStore(earlier.parent) for _ in range(4)]
    await asyncio.gather(*(store.open() for store in stores))
    for n, store in enumerate(stores):
        await store.runs.create(a_run(f"n{n}"), events(1, 1, f"n{n}"), DEFINITION)
    await asyncio.gather(*(store.close() for store in stores))


def test_an_earlier_schema_lacks_what_an_upgrade_may_add_only(version: int) -> None:
    """Columns that were there stay, so an earlier release that has the file open goes on with it."""
    with closing(sqlite3.connect(":memory:")) as old, closing(sqlite3.connect(":memory:")) as new:
        old.executescript(schema_of(version))
        new.executescript(load_sql()["schema"])
        tables = [row[0] for row in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            query = 'SELECT name, "notnull" FROM pragma_table_info(?)'
            before = dict(old.execute(query, (table,)).fetchall())
            after = dict(new.execute(query, (table,)).fetchall())
            assert before.items() <= after.items()
            assert {after[name] for name in after.keys() - before.keys()} <= {0}
