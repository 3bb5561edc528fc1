"""Backups of a data directory: taken while it is in use, checked, and put back.

A backup is a folder of one file a database and `backup.json`, which names them with their checksums. It
appears as a whole or not at all. The journal is copied first: whatever it says was done to vectors is in
their copy, which is of a later moment, and what comes on top of that is repeated with the same ids.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from app.ports.errors import StoreError
from app.stores.file_lock import LOCK_FILE, FileLock
from app.stores.socket_peers import LIVE_FOLDER
from app.stores.sql.exclusive import InUse, exclusive
from app.stores.sql.schema import DATABASE_FILE, SCHEMA_VERSION
from app.stores.sql.snapshot import durable, require_whole, take_snapshot

MANIFEST: Final = "backup.json"
SIDE_FILES: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; those of another one would be applied to it."""
_PARTIAL: Final = ".restoring"
_DATABASE: Final = re.compile(r"[a-z]+\.db")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """One file of a backup. `sha256` in hex."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What `backup.json` says. `taken_at` in epoch seconds; no schema version without a journal."""

    taken_at: float
    schema_version: int | None
    files: Sequence[Copied]


def take_backup(data_dir: Path, target: Path, *, names: Sequence[str], now: Callable[[], float]) -> Backup:
    """Copy the databases of these names, as far as they are there, in that order, into a new folder.

    Raises `StoreError` with what to do; then there is nothing in `target`.
    """
    present = [data_dir / name for name in names if (data_dir / name).exists()]
    if not present or present[0].name != names[0]:
        raise StoreError(f"there is no {names[0]!r} in data_dir: name the right one with --data-dir")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{str(target)!r} is there already: name a folder that is not")
    taken_at = now()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            return _fill(folder, present, target, taken_at)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise StoreError(f"the backup cannot be written to {str(target)!r}: {error.strerror}") from error


def _fill(folder: Path, present: Sequence[Path], target: Path, taken_at: float) -> Backup:
    files = []
    for path in present:
        take_snapshot(path, folder / path.name)
        files.append(_describe(folder / path.name))
    journal = folder / DATABASE_FILE
    version = _schema_version(journal) if journal.exists() else None
    backup = Backup(taken_at=taken_at, schema_version=version, files=files)
    manifest = folder / MANIFEST
    manifest.touch(0o600)
    manifest.write_bytes(orjson.dumps(asdict(backup), option=orjson.OPT_INDENT_2))
    durable(manifest)
    durable(folder)
    folder.rename(target)
    durable(target.parent)
    return backup


async def restore_backup(source: Path, data_dir: Path, *, force: bool) -> Backup:
    """Put the databases of a backup into a data directory that nobody uses.

    `force`: also into one that is not empty; its databases of the same names are gone then. Raises
    `StoreError` with what to do; then the data directory is as it was.
    """
    backup = await asyncio.to_thread(_checked, source)
    await asyncio.to_thread(_require_room, data_dir, force=force)
    lock = FileLock(data_dir)
    if not await lock.acquire():
        raise StoreError("a process executes runs on data_dir: stop every service there first")
    try:
        await asyncio.to_thread(_put_back, source, data_dir, backup)
    except OSError as error:
        raise StoreError(f"the backup cannot be put into data_dir: {error.strerror}") from error
    finally:
        await lock.release()
    return backup


def _require_room(data_dir: Path, *, force: bool) -> None:
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        occupied = any(path.name not in {LOCK_FILE, LIVE_FOLDER} for path in data_dir.iterdir())
    except OSError as error:
        raise StoreError(f"data_dir {str(data_dir)!r} cannot be used: {error.strerror}") from error
    if occupied and not force:
        raise StoreError(
            f"data_dir {str(data_dir)!r} is not empty: name an empty one, or lose what it holds with --force"
        )


def _checked(source: Path) -> Backup:
    """A backup whose files are what they were, and are this release's to read."""
    backup = _read(source)
    if backup.schema_version is not None and backup.schema_version > SCHEMA_VERSION:
        raise StoreError(
            f"the backup has schema version {backup.schema_version!r}, this release knows "
            f"{SCHEMA_VERSION!r}: restore it with the newer release that took it"
        )
    for file in backup.files:
        path = source / file.name
        if not path.is_file() or _describe(path) != file:
            raise StoreError(f"{file.name!r} of the backup is not what {MANIFEST!r} says: use another backup")
        require_whole(path)
    return backup


def _read(source: Path) -> Backup:
    try:
        said: Mapping[str, Any] = orjson.loads((source / MANIFEST).read_bytes())
        files = [Copied(**file) for file in said["files"]]
        backup = Backup(taken_at=said["taken_at"], schema_version=said["schema_version"], files=files)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _no_backup(source) from error
    if any(not _DATABASE.fullmatch(file.name) for file in files):
        raise _no_backup(source)
    return backup


def _no_backup(source: Path) -> StoreError:
    return StoreError(f"{str(source)!r} is no backup: name a folder that `llm-orchestrator backup` made")


def _put_back(source: Path, data_dir: Path, backup: Backup) -> None:
    for file in backup.files:
        _require_unused(data_dir / file.name)
    for file in backup.files:
        partial = data_dir / f"{file.name}{_PARTIAL}"
        partial.unlink(missing_ok=True)
        partial.touch(0o600)
        shutil.copyfile(source / file.name, partial)
        durable(partial)
    # The journal comes last: until it is there the old one stands, with everything that it promised.
    for file in reversed(backup.files):
        for suffix in SIDE_FILES:
            (data_dir / f"{file.name}{suffix}").unlink(missing_ok=True)
        (data_dir / f"{file.name}{_PARTIAL}").rename(data_dir / file.name)
    durable(data_dir)


def _require_unused(path: Path) -> None:
    if not path.exists():
        return
    try:
        with exclusive(path):
            pass
    except InUse:
        raise
    except StoreError:
        pass  # a database that is damaged is what a backup is for


def _describe(path: Path) -> Copied:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return Copied(name=path.name, bytes=path.stat().st_size, sha256=digest)


def _schema_version(path: Path) -> int:
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            (version,) = database.execute("SELECT version FROM schema_version").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise StoreError(f"{path.name!r} in data_dir is a database of another program") from error
    return int(version)
