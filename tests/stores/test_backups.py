"""Backups of a data directory: what is refused, what is copied, and that nothing is half done."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from app.ports.errors import StoreError
from app.stores.backups import MANIFEST, Backup, restore_backup, take_backup
from app.stores.file_lock import FileLock
from app.stores.sql.exclusive import InUse, exclusive
from app.stores.sql.schema import SCHEMA_VERSION
from app.stores.sql.sqlite import SqliteStore
from app.stores.vectors import EmbeddedVectorStore

NAMES = ("orchestrator.db", "vectors.db")
NOW = 1_790_000_000.0


@pytest.fixture
async def data_dir(tmp_path: Path) -> Path:
    """A data directory whose service has stopped."""
    folder = tmp_path / "data"
    store, vectors = SqliteStore(folder), EmbeddedVectorStore(folder / "vectors.db")
    await store.open()
    await vectors.open()
    await vectors.close()
    await store.close()
    return folder


@pytest.fixture
def database(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another process, which stays open."""
    with closing(sqlite3.connect(data_dir / "orchestrator.db", isolation_level=None)) as connection:
        connection.execute("SELECT * FROM runs").fetchall()
        yield connection


def taken(data_dir: Path, target: Path) -> Backup:
    return take_backup(data_dir, target, names=NAMES, now=lambda: NOW)


def schema_versions(folder: Path) -> list[int]:
    with closing(sqlite3.connect(folder / "orchestrator.db")) as connection:
        return [version for (version,) in connection.execute("SELECT version FROM schema_version")]


# --- taking one ---------------------------------------------------------------------------------------


def test_there_is_no_backup_of_a_folder_without_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no 'orchestrator\.db' in data_dir"):
        taken(tmp_path, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_there_is_not_written_over(kind: str, data_dir: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    if kind == "folder":
        target.mkdir()
    ((target / "mine") if kind == "folder" else target).write_text("mine")
    with pytest.raises(StoreError, match="is there already"):
        taken(data_dir, target)
    assert ((target / "mine") if kind == "folder" else target).read_text() == "mine"


def test_a_damaged_database_makes_no_backup(data_dir: Path, tmp_path: Path) -> None:
    (data_dir / "vectors.db").write_text("this is no database, but long enough to be looked at" * 200)
    with pytest.raises(StoreError, match=r"vectors\.db"):
        taken(data_dir, tmp_path / "backup")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_is_of_one_moment_and_its_owners_alone(
    data_dir: Path, database: sqlite3.Connection, tmp_path: Path
) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.execute("UPDATE schema_version SET version = -1")  # not committed
    target = tmp_path / "of" / "today"
    backup = taken(data_dir, target)
    database.execute("ROLLBACK")
    assert sorted(path.name for path in target.iterdir()) == sorted([*NAMES, MANIFEST])
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert (backup.taken_at, backup.schema_version) == (NOW, SCHEMA_VERSION)
    assert [file.bytes for file in backup.files] == [(target / name).stat().st_size for name in NAMES]
    assert schema_versions(target) == [SCHEMA_VERSION]
    assert [path.name for path in target.parent.iterdir()] == ["today"]


# --- putting it back ----------------------------------------------------------------------------------


async def test_a_folder_that_is_no_backup_is_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no backup"):
        await restore_backup(data_dir, tmp_path / "new", force=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["../orchestrator.db", "executor.lock", "/orchestrator.db"])
async def test_a_backup_that_names_other_files_is_refused(name: str, data_dir: Path, tmp_path: Path) -> None:
    taken(data_dir, tmp_path / "backup")
    manifest = tmp_path / "backup" / MANIFEST
    said = json.loads(manifest.read_text())
    said["files"][0]["name"] = name
    manifest.write_text(json.dumps(said))
    with pytest.raises(StoreError, match="is no backup"):
        await restore_backup(tmp_path / "backup", tmp_path / "new", force=False)


@pytest.mark.parametrize("name", NAMES)
async def test_a_backup_that_was_changed_is_refused(name: str, data_dir: Path, tmp_path: Path) -> None:
    taken(data_dir, tmp_path / "backup")
    with (tmp_path / "backup" / name).open("r+b") as content:
        content.seek(-1, 2)
        content.write(b"?")
    with pytest.raises(StoreError, match=f"'{name}' of the backup is not what"):
        await restore_backup(tmp_path / "backup", tmp_path / "new", force=False)
    assert not (tmp_path / "new").exists()


async def test_a_backup_of_a_newer_release_is_refused(data_dir: Path, tmp_path: Path) -> None:
    taken(data_dir, tmp_path / "backup")
    manifest = tmp_path / "backup" / MANIFEST
    said = json.loads(manifest.read_text()) | {"schema_version": SCHEMA_VERSION + 1}
    manifest.write_text(json.dumps(said))
    with pytest.raises(StoreError, match="restore it with the newer release"):
        await restore_backup(tmp_path / "backup", tmp_path / "new", force=False)


async def test_a_folder_that_holds_something_is_left_alone_unless_forced(
    data_dir: Path, tmp_path: Path
) -> None:
    taken(data_dir, tmp_path / "backup")
    with closing(sqlite3.connect(data_dir / "orchestrator.db")) as connection, connection:
        connection.execute("INSERT INTO definitions VALUES ('later', x'00')")
    with pytest.raises(StoreError, match="is not empty"):
        await restore_backup(tmp_path / "backup", data_dir, force=False)
    await restore_backup(tmp_path / "backup", data_dir, force=True)
    with closing(sqlite3.connect(data_dir / "orchestrator.db")) as connection:
        assert connection.execute("SELECT * FROM definitions").fetchall() == []


async def test_a_directory_on_which_a_process_executes_is_left_alone(data_dir: Path, tmp_path: Path) -> None:
    taken(data_dir, tmp_path / "backup")
    lock = FileLock(data_dir)
    assert await lock.acquire()
    with pytest.raises(StoreError, match="a process executes runs on data_dir"):
        await restore_backup(tmp_path / "backup", data_dir, force=True)
    await lock.release()


async def test_a_directory_that_a_standby_has_open_is_left_alone(
    data_dir: Path, database: sqlite3.Connection, tmp_path: Path
) -> None:
    taken(data_dir, tmp_path / "backup")
    before = (data_dir / "orchestrator.db").stat().st_ino
    with pytest.raises(InUse, match="also those that stand by"):
        await restore_backup(tmp_path / "backup", data_dir, force=True)
    assert (data_dir / "orchestrator.db").stat().st_ino == before
    assert database.execute("SELECT count(*) FROM runs").fetchone() == (0,)


async def test_a_damaged_database_is_replaced(data_dir: Path, tmp_path: Path) -> None:
    taken(data_dir, tmp_path / "backup")
    for name in NAMES:
        (data_dir / name).write_text("this is no database, but long enough to be looked at" * 200)
    (data_dir / "orchestrator.db-wal").write_text("of the one that was damaged")
    await restore_backup(tmp_path / "backup", data_dir, force=True)
    assert schema_versions(data_dir) == [SCHEMA_VERSION]


async def test_a_service_starts_on_what_was_put_back(data_dir: Path, tmp_path: Path) -> None:
    taken(data_dir, tmp_path / "backup")
    new = tmp_path / "new"
    await restore_backup(tmp_path / "backup", new, force=False)
    assert {stat.S_IMODE((new / name).stat().st_mode) for name in NAMES} == {0o600}
    store, vectors = SqliteStore(new), EmbeddedVectorStore(new / "vectors.db")
    await store.open()
    await vectors.open()
    await store.check()
    await vectors.check()
    await vectors.close()
    await store.close()


# --- one connection alone -----------------------------------------------------------------------------


def test_a_database_that_is_held_alone_cannot_be_opened_by_others(data_dir: Path) -> None:
    path = data_dir / "orchestrator.db"
    with exclusive(path) as alone:
        assert alone.execute("SELECT version FROM schema_version").fetchone() == (SCHEMA_VERSION,)
        with (
            closing(sqlite3.connect(path, timeout=0.01)) as other,
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            other.execute("SELECT * FROM runs")
    with closing(sqlite3.connect(path, timeout=0.01)) as other:
        assert other.execute("SELECT count(*) FROM runs").fetchone() == (0,)
