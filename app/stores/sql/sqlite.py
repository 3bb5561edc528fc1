"""The embedded default: one SQLite file in `data_dir`, one writer with group commit, a few readers.

Any number of processes may open the same file. Fencing holds between them because a seq is a primary
key; who executes runs is the executor lock's business.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from app.ports.errors import StoreError
from app.ports.runs import ANSWERS_KEPT_SECONDS
from app.stores.sql.faults import outage
from app.stores.sql.readers import Readers
from app.stores.sql.schema import DATABASE_FILE, prepare
from app.stores.sql.session import WriteSession
from app.stores.sql.store import SqlStore
from app.stores.sql.text import load_sql
from app.stores.sql.writer import CommitObserver, Writer

READERS: Final = 2

log = structlog.get_logger(__name__)


class SqliteStore(SqlStore):
    """`app.ports.runs.Store` over `<data_dir>/orchestrator.db`; `open` binds it to the running loop."""

    def __init__(
        self,
        data_dir: Path,
        *,
        observer: CommitObserver | None = None,
        keep_idempotency: float = ANSWERS_KEPT_SECONDS,
        now: Callable[[], float] = time.time,
        readers: int = READERS,
    ) -> None:
        self._path = data_dir / DATABASE_FILE
        self._text = load_sql()
        self._session = WriteSession(self._path, self._text, keep_idempotency=keep_idempotency)
        super().__init__(
            Readers(self._path, size=readers),
            Writer(self._session, observer),
            self._text,
            keep_idempotency=keep_idempotency,
            now=now,
            slow="check the volume of data_dir",
        )

    async def open(self) -> None:
        """Create or check the database. Raises `StoreError` with what to do."""
        await asyncio.to_thread(self._prepare)
        self._writer.start()
        log.info("store_opened", sqlite_version=sqlite3.sqlite_version)

    def _prepare(self) -> None:
        prepare(self._path, self._text)
        self._session.opened()
        try:
            self._readers.start()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the database in data_dir: {outage(error) or error}") from error
