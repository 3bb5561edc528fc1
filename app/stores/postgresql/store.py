"""The store for more than one machine: a PostgreSQL database, shared by any number of processes.

One connection writes, with group commit; a few read. Fencing holds between processes because a seq is a
part of a primary key; who executes runs is the executor lock's business.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from app.ports.errors import StoreError
from app.ports.runs import ANSWERS_KEPT_SECONDS
from app.stores.postgresql.connection import Address, Connection
from app.stores.postgresql.faults import ERRORS, connection_is_lost, outage
from app.stores.postgresql.news import News
from app.stores.postgresql.schema import prepare
from app.stores.postgresql.session import WriteSession
from app.stores.postgresql.text import load_sql
from app.stores.sql.readers import ReadPool
from app.stores.sql.store import SqlStore
from app.stores.sql.writer import CommitObserver, Writer

POOL_SIZE: Final = 4
LAST_LOOK_SECONDS: Final = 5.0
"""How long closing waits for a commit whose outcome is unknown."""
READING: Final = {
    "default_transaction_read_only": "on",
    # What several statements read together is of one moment.
    "default_transaction_isolation": "repeatable read",
}

log = structlog.get_logger(__name__)


class PostgresStore(SqlStore):
    """`app.ports.runs.Store`; `open` binds it to the running loop, and has `news` listen on it."""

    def __init__(
        self,
        address: Address,
        *,
        observer: CommitObserver | None = None,
        keep_idempotency: float = ANSWERS_KEPT_SECONDS,
        now: Callable[[], float] = time.time,
        readers: int = POOL_SIZE,
        news: News | None = None,
    ) -> None:
        self._address = address
        self._text = load_sql()
        self._news = news
        self._session = WriteSession(address, self._text, keep_idempotency=keep_idempotency)
        pool = ReadPool(
            lambda: Connection(address, **READING),
            size=readers,
            errors=ERRORS,
            failure=outage,
            again=connection_is_lost,
        )
        super().__init__(
            pool,
            Writer(self._session, observer),
            self._text,
            keep_idempotency=keep_idempotency,
            now=now,
            slow="see whether the database in store.url is overloaded",
        )

    async def open(self) -> None:
        """Create the schema or check it. Raises `StoreError` with what to do."""
        await asyncio.to_thread(self._prepare)
        self._writer.start()
        if self._news is not None:
            self._news.start()
        log.info("store_opened", database="postgresql")

    async def close(self) -> None:
        """Write what waits, finish the reads in hand, release everything."""
        if self._news is not None:
            await self._news.stop()
        last_look = asyncio.get_running_loop().call_later(LAST_LOOK_SECONDS, self._session.give_up)
        try:
            await super().close()
        finally:
            last_look.cancel()

    def _prepare(self) -> None:
        prepare(self._address, self._text)
        try:
            self._readers.start()
        except ERRORS as error:
            raise StoreError(f"cannot read the database of store.url: {outage(error) or error}") from error
