"""What the SQLite store makes, and what it refuses to open."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.runs import RunFilter
from app.stores.sql.schema import DATABASE_FILE, FIRST_VERSION, SCHEMA_VERSION
from app.stores.sql.sqlite import SqliteStore
from tests.stores.samples import DEFINITION, a_run, events


def _execute(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, parameters)


def _make(path: Path) -> None:
    async def once() -> None:
        store = SqliteStore(path.parent)
        await store.open()
        await store.close()

    asyncio.run(once())


def _not_a_database(path: Path) -> None:
    path.write_bytes(b"this is not a database, whatever its name says" * 100)


def _another_program_s(path: Path) -> None:
    _execute(path, "CREATE TABLE customers (id)")


def _newer(path: Path) -> None:
    _make(path)
    _execute(path, "UPDATE schema_version SET version = ?", SCHEMA_VERSION + 1)


def _older_than_the_first(path: Path) -> None:
    _make(path)
    _execute(path, "UPDATE schema_version SET version = ?", FIRST_VERSION - 1)


def _without_version(path: Path) -> None:
    _make(path)
    _execute(path, "DELETE FROM schema_version")


def _a_directory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (_not_a_database, "not a SQLite database"),
        (_another_program_s, "another program"),
        (_newer, "newer release"),
        (_older_than_the_first, "restore"),
        (_without_version, "schema version"),
        (_a_directory, "cannot be opened"),
    ],
)
def test_what_is_not_this_release_s_database_is_refused_with_advice(
    tmp_path: Path, prepare: Callable[[Path], None], says: str
) -> None:
    prepare(tmp_path / DATABASE_FILE)
    with pytest.raises(StoreError, match=says) as caught:
        asyncio.run(SqliteStore(tmp_path).open())
    assert "data_dir" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


async def test_a_data_dir_that_cannot_be_made_is_refused_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="data_dir"):
        await SqliteStore(tmp_path / "file" / "data").open()


async def test_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "new")
    await store.open()
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    await store.runs.get("t1", "r1")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
    assert modes == dict.fromkeys((DATABASE_FILE, f"{DATABASE_FILE}-wal", f"{DATABASE_FILE}-shm"), 0o600)
    await store.close()
    assert [file.name for file in (tmp_path / "new").iterdir()] == [DATABASE_FILE]


async def test_many_may_open_a_new_directory_at_once(tmp_path: Path) -> None:
    stores = [SqliteStore(tmp_path) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    for n, store in enumerate(stores):
        await store.runs.create(a_run(f"r{n}"), events(1, 1, f"r{n}"), DEFINITION)
    assert len(await stores[0].runs.list("t1", RunFilter(), limit=100)) == 8
    await asyncio.gather(*(store.close() for store in stores))


def test_opening_imports_neither_sqlalchemy_nor_alembic() -> None:
    program = (
        "import sys, app.stores.sql.sqlite; "
        "sys.exit(any(name.split('.')[0] in {'sqlalchemy', 'alembic'} for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("replaced", [False, True])
async def test_nothing_is_accepted_into_a_file_that_is_gone(tmp_path: Path, replaced: bool) -> None:
    path, aside = tmp_path / DATABASE_FILE, tmp_path / "aside.db"
    store = SqliteStore(tmp_path)
    await store.open()
    path.rename(aside)
    if replaced:
        path.touch()
    with pytest.raises(StoreUnavailable, match="removed from data_dir or replaced"):
        await store.runs.create(a_run(), events(1, 1), DEFINITION)
    with pytest.raises(StoreUnavailable, match="removed from data_dir or replaced"):
        await store.check()
    aside.replace(path)  # somebody puts it back
    await store.runs.create(a_run(), events(1, 1), DEFINITION)
    await store.close()
