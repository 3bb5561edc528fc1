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

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.runs import ApprovalStore, IdempotencyStore, Journal, RunStore, StepCache, WorkflowStore
from app.ports.schedules import ScheduleStore
from app.ports.webhooks import WebhookStore
from app.stores.expiry import KEEP_SECONDS
from app.stores.sql.approvals import SqliteApprovals
from app.stores.sql.faults import outage
from app.stores.sql.readers import Readers
from app.stores.sql.schedules import SqliteSchedules
from app.stores.sql.schema import DATABASE_FILE, prepare
from app.stores.sql.session import WriteSession
from app.stores.sql.step_cache import SqliteStepCache
from app.stores.sql.text import load_sql
from app.stores.sql.views import SqliteIdempotency, SqliteJournal, SqliteRuns, SqliteWorkflows
from app.stores.sql.webhooks import SqliteWebhooks
from app.stores.sql.writer import CommitObserver, Writer

READERS: Final = 2
CHECK_EVERY_SECONDS: Final = 1.0
CHECK_TIMEOUT_SECONDS: Final = 5.0

log = structlog.get_logger(__name__)


class SqliteStore:
    """`app.ports.runs.Store` over `<data_dir>/orchestrator.db`; `open` binds it to the running loop."""

    def __init__(
        self,
        data_dir: Path,
        *,
        observer: CommitObserver | None = None,
        keep_idempotency: float = KEEP_SECONDS,
        now: Callable[[], float] = time.time,
        readers: int = READERS,
    ) -> None:
        self._path = data_dir / DATABASE_FILE
        self._sql = load_sql()
        self._readers = Readers(self._path, size=readers)
        session = WriteSession(self._path, self._sql, keep_idempotency=keep_idempotency)
        self._writer = Writer(session, observer)
        parts = (self._readers, self._writer, self._sql)
        self.journal: Journal = SqliteJournal(*parts)
        self.runs: RunStore = SqliteRuns(*parts, keep_idempotency=keep_idempotency)
        self.workflows: WorkflowStore = SqliteWorkflows(*parts, keep_idempotency=keep_idempotency)
        self.idempotency: IdempotencyStore = SqliteIdempotency(
            *parts, keep_idempotency=keep_idempotency, now=now
        )
        self.approvals: ApprovalStore = SqliteApprovals(self._readers, self._sql)
        self.cache: StepCache = SqliteStepCache(*parts)
        self.schedules: ScheduleStore = SqliteSchedules(*parts, keep_idempotency=keep_idempotency)
        self.webhooks: WebhookStore = SqliteWebhooks(*parts, keep_idempotency=keep_idempotency)
        self._probing: asyncio.Task[None] | None = None
        self._checked_at: float | None = None
        """When the latest probe began."""
        self._refusal: str | None = None

    @property
    def waiting(self) -> int:
        """Writes that are not durable yet."""
        return self._writer.waiting

    async def open(self) -> None:
        """Create or check the database. Raises `StoreError` with what to do."""
        await asyncio.to_thread(self._prepare)
        self._writer.start()
        log.info("store_opened", sqlite_version=sqlite3.sqlite_version)

    async def close(self) -> None:
        """Write what waits, finish the reads in hand, release the file."""
        await self._readers.close()
        await self._writer.close()
        if self._probing is not None:
            await self._probing

    async def flush(self) -> None:
        """Return when every write handed in so far is stored or refused."""
        await self._writer.flush()

    async def check(self) -> None:
        """Write a probe as large as a usual batch, at most once a second; raises `StoreUnavailable`.

        There is one probe at a time, and it is nobody's: a caller that goes away leaves it to the next one,
        so however long the disk hangs and however often it is asked for, one write waits.
        """
        now = asyncio.get_running_loop().time()
        if self._probing is None and (
            self._checked_at is None or now - self._checked_at >= CHECK_EVERY_SECONDS
        ):
            self._checked_at = now
            self._probing = asyncio.create_task(self._probe(), name="store-probe")
        if self._probing is not None and self._checked_at is not None:
            left = max(0.0, self._checked_at + CHECK_TIMEOUT_SECONDS - now)
            await asyncio.wait({self._probing}, timeout=left)
        if self._probing is not None:
            raise StoreUnavailable(
                f"a write takes longer than {CHECK_TIMEOUT_SECONDS:.0f} s: check the volume of data_dir"
            )
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)

    def _prepare(self) -> None:
        prepare(self._path, self._sql)
        try:
            self._readers.start()
        except sqlite3.Error as error:
            raise StoreError(f"cannot read the database in data_dir: {outage(error) or error}") from error

    async def _probe(self) -> None:
        self._refusal = None
        try:
            await self._writer.run(lambda connection: connection.execute(self._sql["probe"]).rowcount)
        except StoreError as error:
            self._refusal = str(error)
        finally:
            self._probing = None
