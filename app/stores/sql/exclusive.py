"""A SQLite database for one connection alone, while it is migrated, replaced or moved elsewhere."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.ports.errors import StoreError
from app.stores.sql.faults import outage

WAIT_SECONDS: Final = 1.0
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


class InUse(StoreError):
    """Another process has the database open."""


@contextmanager
def exclusive(path: Path) -> Iterator[sqlite3.Connection]:
    """`alone`, in a transaction that is rolled back at the end."""
    with alone(path) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


@contextmanager
def alone(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that is in no transaction; nobody else can open the file until it is closed.

    A process that stands by has it open without holding any lock of ours, and is noticed here: in the mode
    of the write-ahead log every connection shares a lock on the file for as long as it is open. Raises
    `InUse`, or `StoreError` for a file that cannot be used.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA synchronous=FULL")
            # In this mode the first transaction takes the lock on the file, and its end leaves it there.
            connection.execute("BEGIN EXCLUSIVE")
            connection.commit()
            yield connection
        finally:
            if connection.in_transaction:
                connection.rollback()
            connection.close()
    except sqlite3.Error as error:
        if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BUSY:
            raise InUse(
                f"a process has {path.name!r} in data_dir open: stop every service on data_dir, also those "
                "that stand by"
            ) from error
        raise StoreError(f"{path.name!r} in data_dir cannot be used: {outage(error) or error}") from error
