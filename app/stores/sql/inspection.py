"""Looks at the file of a SQLite store without making, upgrading or locking anything."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from app.ports.errors import StoreError
from app.stores.file_lock import is_locked
from app.stores.inspection import StoreState
from app.stores.sql.faults import outage
from app.stores.sql.schema import DATABASE_FILE
from app.stores.sql.tables import UNFINISHED

WAIT_SECONDS: Final = 5.0


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, for one reading of a database that others may be using."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None)
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def inspect(data_dir: Path) -> StoreState | None:
    """The state of the database; None where there is no file. Raises `StoreError` with what to do."""
    path = data_dir / DATABASE_FILE
    if not path.exists():
        return None
    try:
        with closing(connect_read_only(path)) as connection:
            return _state(connection, executing=is_locked(data_dir))
    except sqlite3.Error as error:
        raise StoreError(f"{path.name!r} in data_dir cannot be read: {outage(error) or error}") from error


def _state(connection: sqlite3.Connection, *, executing: bool) -> StoreState:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if "schema_version" not in tables:
        return StoreState(schema_version=None, foreign=bool(tables))
    version = connection.execute("SELECT version FROM schema_version").fetchone()
    statuses = ", ".join(f"'{name}'" for name in UNFINISHED)
    count = f"SELECT count(*) FROM runs WHERE status IN ({statuses})"  # noqa: S608  names of ours
    return StoreState(
        schema_version=0 if version is None else version[0],
        unfinished=connection.execute(count).fetchone()[0],
        executing=executing,
    )
