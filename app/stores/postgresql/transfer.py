"""Moves a SQLite store to PostgreSQL: every table, in one transaction, compared row by row before it is kept.

The source is read under its executor lock and opened by nobody else, so it is of one moment and no run goes
on there meanwhile. It stays as it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy import Table

from app.ports.errors import StoreError
from app.stores.file_lock import FileLock
from app.stores.postgresql.connection import Address
from app.stores.postgresql.faults import ERRORS, outage
from app.stores.postgresql.lock import AdvisoryLock
from app.stores.sql import tables_records
from app.stores.sql.exclusive import exclusive
from app.stores.sql.schema import DATABASE_FILE, SCHEMA_VERSION

Row: TypeAlias = Sequence[Any]

OF_THE_DATABASE: Final = frozenset({"schema_version", "write_probe"})
"""Tables that each database has for itself."""
BATCH_BYTES: Final = 8 * 2**20
BATCH_ROWS: Final = 5000
LONG_SECONDS: Final = 3600.0
"""For one statement: sorting a large table takes longer than a service would wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """One table that is the same in both."""

    table: str
    rows: int


class _Digest:
    """What a table holds, in the order of its keys: the number of rows and a checksum."""

    def __init__(self) -> None:
        self.rows = 0
        self.largest = 1
        """Bytes of the largest row."""
        self._hash = hashlib.sha256()

    def add(self, row: Row) -> int:
        """Count a row in; its bytes."""
        size = 0
        for value in row:
            content = value if isinstance(value, bytes) else repr(value).encode("utf-8", "surrogatepass")
            self._hash.update(b"%s%d:" % (type(value).__name__.encode(), len(content)))
            self._hash.update(content)
            size += len(content)
        self.rows += 1
        self.largest = max(self.largest, size)
        return size

    @property
    def checksum(self) -> bytes:
        """The same for the same rows."""
        return self._hash.digest()


async def transfer(data_dir: Path, address: Address) -> Sequence[Transferred]:
    """Copy the SQLite store of `data_dir` into an empty database of this release's schema.

    Raises `StoreError` with what to do; then nothing was copied.
    """
    path = data_dir / DATABASE_FILE
    if not path.exists():
        raise StoreError(f"there is no {path.name!r} in data_dir: name the right one with --data-dir")
    source_lock = FileLock(data_dir)
    if not await source_lock.acquire():
        raise StoreError("a process executes runs on data_dir: stop every service there first")
    target_lock = AdvisoryLock(address, silent_seconds=LONG_SECONDS)
    try:
        if not await target_lock.acquire():
            raise StoreError("a process executes runs on store.url: stop every service there first")
        with exclusive(path) as source:
            _require_version(source)
            return await _fill(source, replace(address, statement_timeout_seconds=LONG_SECONDS))
    finally:
        await target_lock.release()
        await source_lock.release()


def _require_version(source: sqlite3.Connection) -> None:
    try:
        found = source.execute("SELECT version FROM schema_version").fetchone()
    except sqlite3.OperationalError:
        found = None
    if found is None or found[0] != SCHEMA_VERSION:
        raise StoreError(
            f"{DATABASE_FILE!r} in data_dir has schema version {found and found[0]!r}, this release copies "
            f"{SCHEMA_VERSION!r}: run `llm-orchestrator migrate` without store.url first"
        )


async def _fill(source: sqlite3.Connection, address: Address) -> Sequence[Transferred]:
    tables = [
        table
        for table in tables_records.approvals.metadata.sorted_tables
        if table.name not in OF_THE_DATABASE
    ]
    try:
        target = await address.connect(lock_timeout="5s")
        try:
            async with target.transaction():
                await _require_empty(target, tables)
                done = [await _copy(source, target, table) for table in tables]
            await target.execute(f"ANALYZE {', '.join(table.name for table in tables)}")
        finally:
            target.terminate()
            await asyncio.sleep(0)  # the transport is told on the loop
    except ERRORS as error:
        raise outage(error) or StoreError(
            f"the copy failed ({type(error).__name__}: {error}); nothing was copied"
        ) from error
    return done


async def _require_empty(target: asyncpg.Connection[asyncpg.Record], tables: Sequence[Table]) -> None:
    names = [table.name for table in tables]
    await target.execute(f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE")
    for name in names:
        if await target.fetchval(f"SELECT EXISTS (SELECT FROM {name})"):  # noqa: S608  a name of ours
            raise StoreError(f"{name!r} in the database of store.url holds rows already: name an empty one")


async def _copy(
    source: sqlite3.Connection, target: asyncpg.Connection[asyncpg.Record], table: Table
) -> Transferred:
    columns = [column.name for column in table.columns]
    keys = ", ".join(column.name for column in table.primary_key)
    select = f"SELECT {', '.join(columns)} FROM {table.name} ORDER BY {keys}"  # noqa: S608  as above
    read, written = _Digest(), _Digest()
    try:
        for batch in _batches(source.execute(select), read):
            await target.copy_records_to_table(table.name, records=batch, columns=columns)
        at_once = max(1, min(BATCH_ROWS, BATCH_BYTES // read.largest))
        async for row in target.cursor(select, prefetch=at_once):
            written.add(tuple(row))
    except (*ERRORS, sqlite3.Error) as error:
        if isinstance(error, ERRORS) and (known := outage(error)) is not None:
            raise known from error
        raise StoreError(
            f"{table.name!r} cannot be copied ({type(error).__name__}: {error}); nothing was"
        ) from error
    if (read.rows, read.checksum) != (written.rows, written.checksum):
        raise StoreError(
            f"{table.name!r} is not the same in both databases ({read.rows} and {written.rows} rows); "
            "nothing was kept: see whether anything else writes to store.url"
        )
    return Transferred(table=table.name, rows=read.rows)


def _batches(rows: Iterator[Row], digest: _Digest) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        size += digest.add(row)
        batch.append(row)
        if size >= BATCH_BYTES or len(batch) >= BATCH_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
