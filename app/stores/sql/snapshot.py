"""Copies of SQLite databases that others are writing to meanwhile, and whether a copy is whole."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from app.ports.errors import StoreError
from app.stores.sql.inspection import connect_read_only


def take_snapshot(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment to a new file, whose owner alone may read it.

    Nobody waits for it: it reads in one transaction, and the write-ahead log grows until it is done. The
    copy is one file without a log beside it, checked as a whole. Raises `StoreError`.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        with closing(connect_read_only(source)) as original, closing(sqlite3.connect(target)) as copy:
            original.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE").fetchone()
        require_whole(target)
    except sqlite3.Error as error:
        # Said in SQLite's own words: either side may be at fault.
        raise StoreError(f"{source.name!r} cannot be copied: {error}") from error
    durable(target)


def require_whole(path: Path) -> None:
    """Raise `StoreError` unless SQLite finds nothing wrong in a file that nobody is using."""
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        ) as database:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise StoreError(f"{path.name!r} is damaged: {error}") from error
    if found != "ok":
        raise StoreError(f"{path.name!r} is damaged: {found}")


def durable(path: Path) -> None:
    """Have a file or a folder on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
