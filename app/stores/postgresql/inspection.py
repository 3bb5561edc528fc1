"""Looks at a PostgreSQL store without changing anything: schema, executor, clock, room, durability."""

from __future__ import annotations

import contextlib
import time
from typing import Final

import asyncpg

from app.ports.errors import StoreError
from app.stores.inspection import StoreState
from app.stores.postgresql.connection import UPKEEP, Address
from app.stores.postgresql.faults import ERRORS, outage
from app.stores.postgresql.lock import EXECUTOR_LOCK
from app.stores.sql.tables import UNFINISHED

_CLOCK: Final = "SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION)"
_SERVER: Final = """\
SELECT current_setting('server_version') AS version,
       current_setting('max_connections')::int AS max_connections,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool AS read_only,
       to_regclass('schema_version') IS NOT NULL AS ours,
       to_regclass('journal') IS NOT NULL OR to_regclass('runs') IS NOT NULL AS taken"""
_RELAXED: Final = """\
SELECT name FROM pg_settings
WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name"""
_EXECUTING: Final = """\
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND CAST(classid AS BIGINT) = $1
      AND CAST(objid AS BIGINT) = (CAST(hashtext(current_schema()) AS BIGINT) & 4294967295)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""
_UNFINISHED: Final = "SELECT count(*) FROM runs WHERE status = ANY($1::text[])"


async def inspect(address: Address) -> StoreState:
    """The state of the database. Raises `StoreError` with what to do."""
    try:
        connection = await address.connect(application_name=UPKEEP)
        try:
            return await _state(connection)
        finally:
            with contextlib.suppress(*ERRORS):
                await connection.close(timeout=1.0)
    except ERRORS as error:
        raise outage(error) or StoreError(
            f"the database of store.url cannot be read ({type(error).__name__}): see its log"
        ) from error


async def _state(connection: asyncpg.Connection[asyncpg.Record]) -> StoreState:
    before = time.time()
    there = await connection.fetchval(_CLOCK)
    after = time.time()
    [server] = await connection.fetch(_SERVER)
    relaxed = await connection.fetch(_RELAXED)
    version, unfinished = None, 0
    if server["ours"]:
        version = await connection.fetchval("SELECT version FROM schema_version") or 0
        unfinished = await connection.fetchval(_UNFINISHED, list(UNFINISHED))
    return StoreState(
        schema_version=version,
        foreign=server["taken"] and not server["ours"],
        unfinished=unfinished,
        executing=await connection.fetchval(_EXECUTING, EXECUTOR_LOCK),
        server=f"PostgreSQL {server['version'].split()[0]}",
        round_trip=after - before,
        clock_ahead=there - (before + after) / 2,
        connections=server["connections"],
        max_connections=server["max_connections"],
        read_only=server["read_only"],
        relaxed=[row["name"] for row in relaxed],
    )
