"""Migrates the database of `store.url`, which no service uses meanwhile.

One connection holds the locks and does the work, so that it cannot go on without them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from app.ports.errors import StoreError
from app.stores.migrations.history import History, Migrated, Standing
from app.stores.postgresql.connection import APPLICATION, UPKEEP, Address
from app.stores.postgresql.faults import ERRORS
from app.stores.postgresql.inspection import inspect
from app.stores.postgresql.lock import EXECUTOR_LOCK
from app.stores.postgresql.schema import SCHEMA_LOCK, foreign, prepare, refusal, require_known
from app.stores.postgresql.text import load_sql

PATIENCE_SECONDS: Final = 3.0
"""How long connections of services that have just ended are waited for."""
LOOK_SECONDS: Final = 0.1
LOCK_SECONDS: Final = 30
"""How long another process that migrates, or whatever else holds a table, is waited for."""
LONG_SECONDS: Final = 3600.0
"""For one statement: an index on a large table takes longer than a service would wait."""
_SERVICES: Final = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name = :application"
)
_VERSION: Final = text("SELECT version FROM schema_version")
_SCHEMA: Final = text("SELECT pg_advisory_lock(:lock)")


async def standing(address: Address, history: History) -> Standing:
    """Where the database stands. Raises `StoreError` for one that is not ours or of a newer release."""
    return history.standing(await _found(address))


async def migrate(
    address: Address, history: History, *, to: int | None = None, agreed: bool = False
) -> Migrated:
    """Bring the database to a version, the newest by default; make its tables where there are none.

    Raises `StoreError` with what to do, `WouldLose` for a way down that was not `agreed` to; then the
    database is of the version that the last whole revision led to.
    """
    found = await _found(address)
    target = history.target(to, found)
    if found is None:
        await asyncio.to_thread(prepare, address, load_sql())
    if found is None or found == target:
        return Migrated(before=found, after=target)
    async with _connected(address) as connection:
        await connection.execute(_SCHEMA, {"lock": SCHEMA_LOCK})
        # Somebody else may have migrated in the meantime.
        found = int((await connection.execute(_VERSION)).scalar_one())
        require_known(found)
        if found != target:
            await _require_unused(connection)
        await connection.commit()
        return await connection.run_sync(_migrate, history, found, target, agreed)


async def _found(address: Address) -> int | None:
    state = await inspect(address)
    if state.foreign:
        raise foreign()
    if state.schema_version is not None:
        require_known(state.schema_version)
    return state.schema_version


def _migrate(
    connection: Connection,
    history: History,
    found: int,
    target: int,
    agreed: bool,
) -> Migrated:
    return history.migrate(connection, found, target, agreed=agreed)


async def _require_unused(connection: AsyncConnection) -> None:
    executor = text(load_sql()["executor_lock"])
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        alone = (await connection.execute(executor, {"lock": EXECUTOR_LOCK})).scalar_one()
        services = (await connection.execute(_SERVICES, {"application": APPLICATION})).scalar_one()
        if alone and not services:
            return
        if time.monotonic() > deadline:
            raise StoreError(
                f"services have {services} connections to the database of store.url: stop every one there "
                "first, also workers and those that stand by"
            )
        await connection.rollback()
        await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[AsyncConnection]:
    patient = replace(address, statement_timeout_seconds=LONG_SECONDS)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: patient.connect(application_name=UPKEEP, lock_timeout=f"{LOCK_SECONDS}s"),
        poolclass=NullPool,
    )
    try:
        async with engine.connect() as connection:
            yield connection
    except DBAPIError as error:
        raise refusal(_cause(error)) from error
    except ERRORS as error:
        raise refusal(error) from error


def _cause(error: DBAPIError) -> BaseException:
    """What the driver raised, under what SQLAlchemy makes of it."""
    return (error.orig and error.orig.__cause__) or error.orig or error
