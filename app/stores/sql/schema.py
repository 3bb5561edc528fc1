"""The database file: made when it is missing, refused when it is of another release, how to connect to it.

Only `migrate` changes the schema of a file that is there.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from app.ports.errors import StoreError
from app.stores.sql.faults import outage
from app.stores.sql.text import Sql

SCHEMA_VERSION: Final = 3
FIRST_VERSION: Final = 1
DATABASE_FILE: Final = "orchestrator.db"
BUSY_MILLISECONDS: Final = 5000
MINIMUM_SQLITE: Final = (3, 38, 0)
"""The first with JSON functions built in."""


def prepare(path: Path, sql: Sql) -> None:
    """Create the file and its schema, or check them. Raises `StoreError` with what to do."""
    if sqlite3.sqlite_version_info < MINIMUM_SQLITE:
        raise StoreError(
            f"SQLite {sqlite3.sqlite_version!r} is too old: use a Python built with 3.38 or newer"
        )
    _create_file(path)
    try:
        connection = connect_writer(path)
        try:
            _prepare_schema(connection, path.name, sql)
        finally:
            connection.close()
    except sqlite3.Error as error:
        reason = outage(error) or error
        raise StoreError(f"cannot open {path.name!r} in data_dir: {reason}") from error


def connect_writer(path: Path) -> sqlite3.Connection:
    """A connection that is durable at every commit and never checkpoints on its own."""
    connection = _connect(path)
    try:
        _require_wal(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA wal_autocheckpoint=0")
    except BaseException:
        connection.close()
        raise
    return connection


def _require_wal(mode: str) -> None:
    if mode != "wal":
        raise StoreError(
            f"the file system of data_dir does not support write-ahead logging ({mode!r}): "
            "set data_dir to a local one"
        )


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that sees every commit and refuses to write."""
    connection = _connect(path)
    try:
        connection.execute("PRAGMA query_only=ON")
        # The first read opens the write-ahead log and its index.
        connection.execute("PRAGMA user_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # `mode=rw` never creates: a file that vanished must not be replaced by an empty one.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_MILLISECONDS / 1000,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
    )
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def _create_file(path: Path) -> None:
    """Make an empty file that only its owner may read; SQLite's side files take its mode over."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(
            f"cannot create {path.name!r} in data_dir ({error.strerror}): "
            "set data_dir to a directory that this user can write to, on a volume with free space"
        ) from error


def _prepare_schema(connection: sqlite3.Connection, name: str, sql: Sql) -> None:
    connection.execute("BEGIN IMMEDIATE")
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not tables:
        for statement in sql["schema"].split(";\n"):
            connection.execute(statement)
        connection.execute(sql["schema_version_set"], {"version": SCHEMA_VERSION})
        connection.execute(sql["probe_create"])
    elif "schema_version" not in tables:
        raise foreign(name)
    else:
        row = connection.execute(sql["schema_version_get"]).fetchone()
        found = 0 if row is None else row[0]
        require_known(found, name)
        if found < SCHEMA_VERSION:
            raise StoreError(
                f"{name!r} in data_dir has schema version {found!r}, this release needs {SCHEMA_VERSION!r}: "
                "stop the processes of the earlier release, take a backup, then run "
                "`llm-orchestrator migrate`"
            )
    connection.commit()


def foreign(name: str) -> StoreError:
    """The refusal of a file that is not ours."""
    return StoreError(
        f"{name!r} in data_dir is a database of another program: move it away or set another data_dir"
    )


def require_known(found: int, name: str) -> None:
    """Raise `StoreError` for a version that this release does not know."""
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"{name!r} in data_dir has schema version {found!r}, this release knows {SCHEMA_VERSION!r}: "
            "run the newer release that wrote it, or set another data_dir"
        )
    if found < FIRST_VERSION:
        raise StoreError(
            f"{name!r} in data_dir names no schema version that there ever was: "
            "restore data_dir from a backup, or set another data_dir"
        )
