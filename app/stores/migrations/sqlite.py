"""Migrates the SQLite file of a data directory, which no other process has open meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from app.ports.errors import StoreError
from app.stores.file_lock import FileLock
from app.stores.migrations.history import History, Migrated, Standing
from app.stores.sql.exclusive import alone
from app.stores.sql.faults import outage
from app.stores.sql.inspection import inspect
from app.stores.sql.schema import DATABASE_FILE, foreign, prepare, require_known
from app.stores.sql.text import load_sql

PATIENCE_SECONDS: Final = 3.0
"""How long a process that executes, or migrates as well, is waited for."""
LOOK_SECONDS: Final = 0.05


def standing(data_dir: Path, history: History) -> Standing:
    """Where the file stands. Raises `StoreError` for one that is not ours or of a newer release."""
    return history.standing(_found(data_dir))


async def migrate(
    data_dir: Path, history: History, *, to: int | None = None, agreed: bool = False
) -> Migrated:
    """Bring the file to a version, the newest by default; make it where there is none.

    Raises `StoreError` with what to do, `WouldLose` for a way down that was not `agreed` to; then the file is
    of the version that the last whole revision led to.
    """
    found = await asyncio.to_thread(_found, data_dir)
    target = history.target(to, found)
    if found is None:
        await asyncio.to_thread(prepare, data_dir / DATABASE_FILE, load_sql())
    if found is None or found == target:
        return Migrated(before=found, after=target)
    lock = FileLock(data_dir)
    await _acquire(lock)
    try:
        return await asyncio.to_thread(_migrate, data_dir, history, target, agreed=agreed)
    finally:
        await lock.release()


def _found(data_dir: Path) -> int | None:
    state = inspect(data_dir)
    if state is None:
        return None
    if state.foreign:
        raise foreign(DATABASE_FILE)
    if state.schema_version is not None:
        require_known(state.schema_version, DATABASE_FILE)
    return state.schema_version


async def _acquire(lock: FileLock) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await lock.acquire():
        if time.monotonic() > deadline:
            raise StoreError(
                "a process executes runs on data_dir or migrates it: stop every service there first"
            )
        await asyncio.sleep(LOOK_SECONDS)


def _migrate(data_dir: Path, history: History, target: int, *, agreed: bool) -> Migrated:
    path = data_dir / DATABASE_FILE
    with alone(path) as file:
        # Somebody else may have migrated in the meantime.
        [found] = file.execute("SELECT version FROM schema_version").fetchone()
        require_known(found, path.name)
        try:
            with _connected(file) as connection:
                return history.migrate(connection, found, target, agreed=agreed)
        except DBAPIError as error:
            reason = outage(error.orig) or error.orig if error.orig else error
            raise StoreError(
                f"{path.name!r} in data_dir cannot be migrated: {reason}; each revision is done as a whole "
                "or not at all, `llm-orchestrator migrate --check` says which"
            ) from error


@contextmanager
def _connected(file: sqlite3.Connection) -> Iterator[Connection]:
    """The open file as SQLAlchemy sees a connection; the file stays open."""
    engine = create_engine("sqlite://", creator=lambda: file, poolclass=StaticPool)
    # The driver begins nothing by itself in its mode without isolation levels, and so nothing is committed
    # behind our back either: it would do that before every change of the schema.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    with engine.connect() as connection:
        yield connection
