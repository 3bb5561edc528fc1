"""A connection to PostgreSQL for code that may block: the views of the SQL stores run on threads.

asyncpg speaks on an event loop, so each connection brings a small one, which runs while a statement does.
It belongs to one thread at a time. Statements are prepared once a connection.

Both ends give a connection up on which the other has been silent for `SILENT_SECONDS`, whether or not
something is asked on it: a network that drops packets ends nothing by itself. At the server that frees what
the connection holds, the executor lock above all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import asyncpg

from app.stores.postgresql.text import numbered

T = TypeVar("T")

APPLICATION: Final = "llm-orchestrator"
UPKEEP: Final = "llm-orchestrator upkeep"
"""How whoever only looks or migrates is called, so that `migrate` can tell services from them."""
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 5.0
"""How much longer than a statement may take its answer is waited for."""
SILENT_SECONDS: Final = 10
IDLE_SECONDS: Final = 4
"""After that long without traffic the other end is asked for a sign of life, and then every other second."""
PROBE_SECONDS: Final = 2
PROBES: Final = (SILENT_SECONDS - IDLE_SECONDS) // PROBE_SECONDS
_AT_THE_SERVER: Final[Mapping[str, str]] = {
    "tcp_keepalives_idle": str(IDLE_SECONDS),
    "tcp_keepalives_interval": str(PROBE_SECONDS),
    "tcp_keepalives_count": str(PROBES),
    "tcp_user_timeout": str(1000 * SILENT_SECONDS),
}
_HERE: Final = {
    "TCP_KEEPIDLE": IDLE_SECONDS,
    "TCP_KEEPINTVL": PROBE_SECONDS,
    "TCP_KEEPCNT": PROBES,
    "TCP_USER_TIMEOUT": 1000 * SILENT_SECONDS,
}
"""Options of TCP by name, for no system has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the database is and how it is to be talked to."""

    url: str = field(repr=False)
    statement_timeout_seconds: float = 30.0

    async def connect(self, **settings: str) -> asyncpg.Connection[asyncpg.Record]:
        """A connection on the running loop, with these settings of the server."""
        milliseconds = round(self.statement_timeout_seconds * 1000)
        connection = await asyncpg.connect(
            self.url,
            timeout=CONNECT_SECONDS,
            command_timeout=self.statement_timeout_seconds + ANSWER_SECONDS,
            statement_cache_size=0,
            server_settings={
                "application_name": APPLICATION,
                "statement_timeout": str(milliseconds),
                **_AT_THE_SERVER,
                **settings,
            },
        )
        _notice_silence(connection)
        return connection


def _notice_silence(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    # The driver has no option for it, and tells of its socket nowhere else.
    transport = connection._transport  # type: ignore[attr-defined]  # noqa: SLF001  as above
    place = transport.get_extra_info("socket")
    if place is None or place.family == getattr(socket, "AF_UNIX", None):
        return
    place.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _HERE.items():
        if (option := getattr(socket, name, None)) is not None:
            place.setsockopt(socket.IPPROTO_TCP, option, value)


class Result:
    """What a statement brought."""

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self.rowcount = rowcount
        self._rows = iter(rows)

    def fetchone(self) -> Any:
        """The next row, or None."""
        return next(self._rows, None)

    def fetchall(self) -> list[Any]:
        """All rows that are left."""
        return list(self._rows)


class Connection:
    """`app.stores.sql.connections.Connection`, open from the start."""

    def __init__(self, address: Address, **settings: str) -> None:
        # The plainest loop there is: it waits for one socket.
        self._loop = asyncio.SelectorEventLoop()
        try:
            self._inner = self._wait(address.connect(**settings))
        except BaseException:
            self._loop.close()
            raise
        self._prepared: dict[str, tuple[Any, Sequence[str]]] = {}

    def execute(self, text: str, parameters: Any = (), /) -> Result:
        """Execute one statement with parameters by name or by position."""
        statement, names = self._prepared.get(text) or self._prepare(text)
        values = [parameters[name] for name in names] if isinstance(parameters, Mapping) else parameters
        rows = self._wait(statement.fetch(*values))
        count = statement.get_statusmsg().rpartition(" ")[2]
        return Result(rows, int(count) if count.isdecimal() else -1)

    def command(self, text: str) -> None:
        """Execute what has neither parameters nor rows."""
        self._wait(self._inner.execute(text))

    def begin(self) -> None:
        """Open a transaction."""
        self.command("BEGIN")

    def commit(self) -> None:
        """End the transaction that is open."""
        self.command("COMMIT")

    def rollback(self) -> None:
        """Undo the transaction that is open; harmless where none is."""
        if self._inner.is_in_transaction():
            self.command("ROLLBACK")

    def close(self) -> None:
        """Break it off."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(OSError, asyncpg.InterfaceError):
            self._inner.terminate()
            self._wait(asyncio.sleep(0))  # the transport is told on the loop
        self._loop.close()

    def _prepare(self, text: str) -> tuple[Any, Sequence[str]]:
        plain, names = numbered(text)
        self._prepared[text] = prepared = (self._wait(self._inner.prepare(plain)), names)
        return prepared

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)
