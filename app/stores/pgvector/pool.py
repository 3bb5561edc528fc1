"""Connections to PostgreSQL for the vector store: a bounded pool, deadlines, errors in our words.

The driver, asyncpg, comes with the extra `postgresql` and is imported with the first call. What a
connection needs of its session is set once when it is opened; nothing of it is changed later, so that
nothing has to be reset between two uses.

A caller that is cancelled, or whose time is over, has its query cancelled at the server before the
connection goes back to the pool; a server that does not answer that loses the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic import SecretStr

from app.stores.pgvector import errors
from app.stores.pgvector.format import packed, unpacked
from app.stores.pgvector.sql import EXTENSION

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = PoolConnectionProxy[asyncpg.Record]

RELEASE_SECONDS: Final = 2.0
"""How long the server has to confirm that it cancelled a query, or rolled back."""
CLOSE_SECONDS: Final = 5.0
"""How long the calls under way have when the pool closes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the database is: `dsn` alone if there is one, else the parts."""

    dsn: SecretStr | None
    host: str
    port: int
    user: str
    password: SecretStr | None
    database: str
    ssl: str

    def arguments(self) -> dict[str, Any]:
        """For the driver. A password that is missing is empty: the driver would look for one elsewhere."""
        if self.dsn is not None:
            return {"dsn": self.dsn.get_secret_value()}
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": "" if self.password is None else self.password.get_secret_value(),
            "database": self.database,
            "ssl": self.ssl,
        }


class Pool:
    """At most `size` connections, opened when they are needed. `extension` is known while one is lent."""

    def __init__(
        self, instance: str, address: Address, *, size: int, connect_seconds: float, session: dict[str, str]
    ) -> None:
        """`session` are settings of every connection. Raises `ValueError` where the driver is missing."""
        if find_spec("asyncpg") is None:
            raise ValueError(
                f"database {instance!r} is PostgreSQL, whose driver is not installed; "
                "install llm-orchestrator[postgresql]"
            )
        self._instance = instance
        self._address = address
        self._size = size
        self._connect_seconds = connect_seconds
        self._session = session
        self._imported = False
        self._opening = asyncio.Lock()
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.extension = ""
        """The schema that the extension is installed in."""

    @contextlib.asynccontextmanager
    async def connection(self, timeout_seconds: float) -> AsyncIterator[Connection]:
        """A connection for at most that long. Raises `PermanentError`, `TemporaryError` and `TableGone`, also
        for what fails in the block."""
        if not self._imported:  # 0.1 s that the event loop need not wait for
            await asyncio.to_thread(import_module, "asyncpg")
            self._imported = True
        import asyncpg  # noqa: PLC0415 - optional: the extra `postgresql`

        try:
            async with asyncio.timeout(timeout_seconds):
                pool = self._pool or await self._opened()
                connection = await pool.acquire(timeout=timeout_seconds)
                try:
                    yield connection
                finally:
                    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                        await pool.release(connection, timeout=RELEASE_SECONDS)
        except TimeoutError:
            raise errors.too_late(self._instance, timeout_seconds) from None
        except asyncpg.UndefinedTableError:
            raise errors.TableGone from None
        except asyncpg.PostgresError as error:
            raise errors.of_server(error, error.sqlstate or "", self._instance) from None
        except asyncpg.ClientConfigurationError:
            raise errors.malformed_address(self._instance) from None
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise errors.lost(error, self._instance) from None

    async def close(self) -> None:
        """Wait a little for what is under way, then close every connection."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def _opened(self) -> asyncpg.Pool[asyncpg.Record]:
        import asyncpg  # noqa: PLC0415 - as above

        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    **self._address.arguments(),
                    min_size=0,
                    max_size=self._size,
                    timeout=self._connect_seconds,
                    init=self._prepare,
                    reset=_nothing_to_reset,
                    server_settings={"application_name": "llm-orchestrator"},
                )
            return self._pool

    async def _prepare(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Make a new connection fit for use."""
        extension = await connection.fetchval(EXTENSION)
        if extension is None:
            raise errors.no_extension(self._instance)
        await connection.set_type_codec(
            "vector", schema=extension, encoder=packed, decoder=unpacked, format="binary"
        )
        for name, value in self._session.items():
            await connection.execute("SELECT set_config($1, $2, false)", name, value)
        self.extension = extension


@contextlib.asynccontextmanager
async def transaction(
    connection: Connection, *, isolation: Literal["repeatable_read"] | None = None, readonly: bool = False
) -> AsyncIterator[None]:
    """Commit what is done in the block, or none of it. A server that does not answer the rollback is not
    waited for: the connection is given up when it goes back to the pool."""
    begun = connection.transaction(isolation=isolation, readonly=readonly)
    await begun.start()
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):  # what ended the block is what counts
            async with asyncio.timeout(RELEASE_SECONDS):
                await begun.rollback()
        raise
    await begun.commit()


async def _nothing_to_reset(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Sessions stay as they were prepared."""
