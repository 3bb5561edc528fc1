"""The tables in the database: made when there are none, checked at a start, brought up to date on request.

Only `migrate` changes what is there; a service refuses an older schema, because processes of the earlier
release may still be working on it. Versions are those of `app.stores.sql.schema`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

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

STEPS: Final[Mapping[int, Sequence[str]]] = {}
"""What brings the version before to this one: statements, executed in one transaction."""


def prepare(address: Address, sql: Sql) -> None:
    """Make the schema or check it. Raises `StoreError` with what to do."""
    with _Schema(address, sql) as schema:
        found = schema.version()
        if found is None:
            schema.create()
        elif found < SCHEMA_VERSION:
            raise StoreError(
                f"the database of store.url has schema version {found!r}, this release needs "
                f"{SCHEMA_VERSION!r}: stop the processes of the earlier release, then run "
                "`llm-orchestrator migrate`"
            )


def migrate(address: Address, sql: Sql) -> tuple[int | None, int]:
    """Make the schema or bring it up to date; the versions before (None: there was none) and after.

    Raises `StoreError` with what to do; then nothing was changed.
    """
    with _Schema(address, sql) as schema:
        found = schema.version()
        if found is None:
            schema.create()
        else:
            for version in range(found + 1, SCHEMA_VERSION + 1):
                schema.step(STEPS[version])
            schema.raise_version()
        return found, SCHEMA_VERSION


class _Schema:
    """A transaction in which nobody else makes or changes the schema; it is kept unless something fails."""

    def __init__(self, address: Address, sql: Sql) -> None:
        self._address = address
        self._sql = sql

    def __enter__(self) -> _Schema:
        try:
            self._connection = Connection(self._address)
        except ERRORS as error:
            raise _refusal(error) from error
        try:
            _require_server(self._connection)
            self._connection.begin()
            self._connection.execute(self._sql["schema_lock"], {"lock": SCHEMA_LOCK})
        except BaseException as error:
            self._connection.close()
            if isinstance(error, ERRORS):
                raise _refusal(error) from error
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._connection.commit()
        except ERRORS as failure:
            raise _refusal(failure) from failure
        finally:
            self._connection.close()
        if isinstance(error, ERRORS):
            raise _refusal(error) from error

    def version(self) -> int | None:
        """The version that is there; None for an empty database."""
        tables = {row[0] for row in self._connection.execute(self._sql["tables"]).fetchall()}
        if "schema_version" not in tables:
            if tables & {"journal", "runs", "workflows"}:
                raise StoreError(
                    "the database of store.url holds tables of another program: name an empty database"
                )
            return None
        row = self._connection.execute(self._sql["schema_version_get"]).fetchone()
        found = 0 if row is None else int(row[0])
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
        return found

    def create(self) -> None:
        """Make all of it."""
        self._connection.command(self._sql["schema"])
        self._connection.command(self._sql["triggers"])
        self._connection.execute(self._sql["schema_version_set"], {"version": SCHEMA_VERSION})
        self._connection.execute(self._sql["probe_create"])

    def step(self, statements: Sequence[str]) -> None:
        """Go from one version to the next."""
        for statement in statements:
            self._connection.command(statement)

    def raise_version(self) -> None:
        """Say which version it is now."""
        self._connection.execute(self._sql["schema_version_raise"], {"version": SCHEMA_VERSION})


def _require_server(connection: Connection) -> None:
    server = int(connection.execute("SHOW server_version_num").fetchone()[0]) // 10_000
    if server < OLDEST_SERVER:
        raise StoreError(f"PostgreSQL {server!r} is too old: {OLDEST_SERVER} or newer is needed")


def _refusal(error: BaseException) -> StoreError:
    reason = outage(error)
    if reason is None:
        return StoreError(f"the database of store.url cannot be used ({type(error).__name__}): {error}")
    return StoreError(f"the database of store.url cannot be opened: {reason}")
