"""What an error of SQLite means: the store is out of order, or this one write cannot be stored.

Messages name the setting `data_dir`, never a path.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from app.ports.errors import StoreError, StoreUnavailable

WRITE_ERRORS: Final = (sqlite3.Error, OverflowError, UnicodeError, TypeError, ValueError, MemoryError)
"""Everything that executing a statement can raise; the last ones come from values SQLite cannot hold."""

_OUTAGES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free space where data_dir is",
    sqlite3.SQLITE_IOERR: "the disk reports an I/O error: check the volume that holds data_dir",
    sqlite3.SQLITE_READONLY: "the database is read-only: make data_dir and its files writable",
    sqlite3.SQLITE_BUSY: "another process keeps the database locked: end what else writes to data_dir",
    sqlite3.SQLITE_LOCKED: "the database is locked: try again",
    sqlite3.SQLITE_CANTOPEN: "the database cannot be opened: check that data_dir exists and is writable",
    sqlite3.SQLITE_PERM: "access to the database was refused: check the permissions of data_dir",
    sqlite3.SQLITE_AUTH: "access to the database was refused: check the permissions of data_dir",
    sqlite3.SQLITE_PROTOCOL: "the database could not be locked: data_dir must be on a local file system",
    sqlite3.SQLITE_CORRUPT: "the database is damaged: restore data_dir from a backup",
    sqlite3.SQLITE_NOTADB: "the file is not a SQLite database: move it away or set another data_dir",
    sqlite3.SQLITE_NOMEM: "the process is out of memory: raise its memory limit",
    sqlite3.SQLITE_INTERRUPT: "the write was interrupted: try again",
}
_STALE: Final = frozenset(_OUTAGES) - {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""Codes after which the connection itself is not to be trusted any more."""


def _code(error: BaseException) -> int | None:
    if isinstance(error, MemoryError):
        return sqlite3.SQLITE_NOMEM
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


def outage(error: BaseException) -> StoreUnavailable | None:
    """The outage behind an error; None when only the write itself is at fault."""
    code = _code(error)
    if code is None:
        closed = isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error)
        return StoreUnavailable("the store is closed") if closed else None
    reason = _OUTAGES.get(code)
    return None if reason is None else StoreUnavailable(reason)


def connection_is_stale(error: BaseException) -> bool:
    """Whether to go on with a new connection."""
    return _code(error) in _STALE


def unstorable(error: BaseException) -> StoreError:
    """The refusal of a write that SQLite cannot hold: a number over 64 bits, invalid Unicode."""
    return StoreError(f"the write cannot be stored ({type(error).__name__}: {error}); nothing of it was")
