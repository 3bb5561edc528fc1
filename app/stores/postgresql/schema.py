"""The tables in the database: made when there are none, checked at a start.

Only `migrate` changes what is there; a service refuses an older schema, because processes of the earlier
release may still be working on it. Versions are those of `app.stores.sql.schema`.
"""

from __future__ import annotations

from typing import Final

from asyncpg import PostgresError

from app.ports.errors import StoreError
from app.stores.postgresql.connection import Address, Connection
from app.stores.postgresql.faults import ERRORS, outage
from app.stores.postgresql.text import Sql
from app.stores.sql.schema import SCHEMA_VERSION

FIRST_VERSION: Final = 3
"""The first that there was for PostgreSQL."""
SCHEMA_LOCK: Final = 7_105_231_001
"""One process at a time makes or changes the schema; others wait for it."""
OLDEST_SERVER: Final = 14
"""The first whose functions are all there."""


def prepare(address: Address, sql: Sql) -> None:
    """Make the schema or check it. Raises `StoreError` with what to do."""
    with _Schema(address, sql) as schema:
        found = schema.version()
        if found is None:
            schema.create()
        elif found < SCHEMA_VERSION:
            raise StoreError(
                f"the database of store.url has schema version {found!r}, this release needs "
                f"{SCHEMA_VERSION!r}: stop the processes of the earlier release, take a backup, then run "
                "`llm-orchestrator migrate`"
            )


def foreign() -> StoreError:
    """The refusal of a database that is not ours."""
    return StoreError("the database of store.url holds tables of another program: name an empty database")


def require_known(found: int) -> None:
    """Raise `StoreError` for a version that this release does not know."""
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"the database of store.url has schema version {found!r}, this release knows "
            f"{SCHEMA_VERSION!r}: run the newer release that wrote it, or name another database"
        )
    if found < FIRST_VERSION:
        raise StoreError(
            "the database of store.url names no schema version that there ever was: restore it from a "
            "backup, or name another database"
        )


class _Schema:
    """A transaction in which nobody else makes or changes the schema; it is kept unless something fails."""

    def __init__(self, address: Address, sql: Sql) -> None:
        self._address = address
        self._sql = sql

    def __enter__(self) -> _Schema:
        try:
            self._connection = Connection(self._address)
        except ERRORS as error:
            raise refusal(error) from error
        try:
            _require_server(self._connection)
            self._connection.begin()
            self._connection.execute(self._sql["schema_lock"], {"lock": SCHEMA_LOCK})
        except BaseException as error:
            self._connection.close()
            if isinstance(error, ERRORS):
                raise refusal(error) from error
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._connection.commit()
        except ERRORS as failure:
            raise refusal(failure) from failure
        finally:
            self._connection.close()
        if isinstance(error, ERRORS):
            raise refusal(error) from error

    def version(self) -> int | None:
        """The version that is there; None for an empty database."""
        tables = {row[0] for row in self._connection.execute(self._sql["tables"]).fetchall()}
        if "schema_version" not in tables:
            if tables & {"journal", "runs", "workflows"}:
                raise foreign()
            return None
        row = self._connection.execute(self._sql["schema_version_get"]).fetchone()
        found = 0 if row is None else int(row[0])
        require_known(found)
        return found

    def create(self) -> None:
        """Make all of it."""
        self._connection.command(self._sql["schema"])
        self._connection.command(self._sql["triggers"])
        self._connection.execute(self._sql["schema_version_set"], {"version": SCHEMA_VERSION})
        self._connection.execute(self._sql["probe_create"])


def _require_server(connection: Connection) -> None:
    server = int(connection.execute("SHOW server_version_num").fetchone()[0]) // 10_000
    if server < OLDEST_SERVER:
        raise StoreError(f"PostgreSQL {server!r} is too old: {OLDEST_SERVER} or newer is needed")


def refusal(error: BaseException) -> StoreError:
    """Why the database cannot be used."""
    reason = outage(error)
    if reason is None:
        # The server's words are of the schema; the driver's may quote the URL.
        told = str(error) if isinstance(error, PostgresError) else "check its options, such as sslmode"
        return StoreError(f"the database of store.url cannot be used ({type(error).__name__}): {told}")
    return StoreError(f"the database of store.url cannot be opened: {reason}")
