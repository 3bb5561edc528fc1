"""What every SQL store is made of: the views over its readers and its writer, and the probe of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from app.ports.errors import StoreError, StoreUnavailable
from app.ports.inbox import Inbox
from app.ports.index_contracts import IndexContracts
from app.ports.runs import ApprovalStore, IdempotencyStore, Journal, RunStore, StepCache, WorkflowStore
from app.ports.schedules import ScheduleStore
from app.ports.webhooks import WebhookStore
from app.stores.sql.approvals import SqlApprovals
from app.stores.sql.connections import Statements
from app.stores.sql.inbox import SqlInbox
from app.stores.sql.index_contracts import SqlIndexContracts
from app.stores.sql.readers import ReadPool
from app.stores.sql.schedules import SqlSchedules
from app.stores.sql.step_cache import SqlStepCache
from app.stores.sql.views import SqlIdempotency, SqlJournal, SqlRuns, SqlWorkflows
from app.stores.sql.webhooks import SqlWebhooks
from app.stores.sql.writer import Writer

CHECK_EVERY_SECONDS: Final = 1.0
CHECK_TIMEOUT_SECONDS: Final = 5.0


class SqlStore:
    """`app.ports.runs.Store` but for `open`. `slow` is what to do about writes that take too long."""

    def __init__(
        self,
        readers: ReadPool,
        writer: Writer,
        sql: Statements,
        *,
        keep_idempotency: float,
        now: Callable[[], float],
        slow: str,
    ) -> None:
        self._sql = sql
        self._readers = readers
        self._writer = writer
        self._slow = slow
        parts = (readers, writer, sql)
        self.journal: Journal = SqlJournal(*parts)
        self.runs: RunStore = SqlRuns(*parts, keep_idempotency=keep_idempotency)
        self.workflows: WorkflowStore = SqlWorkflows(*parts, keep_idempotency=keep_idempotency)
        self.idempotency: IdempotencyStore = SqlIdempotency(
            *parts, keep_idempotency=keep_idempotency, now=now
        )
        self.approvals: ApprovalStore = SqlApprovals(readers, sql)
        self.cache: StepCache = SqlStepCache(*parts)
        self.schedules: ScheduleStore = SqlSchedules(*parts, keep_idempotency=keep_idempotency)
        self.webhooks: WebhookStore = SqlWebhooks(*parts, keep_idempotency=keep_idempotency)
        self.index_contracts: IndexContracts = SqlIndexContracts(*parts)
        self.inbox: Inbox = SqlInbox(*parts)
        self._probing: asyncio.Task[None] | None = None
        self._checked_at: float | None = None
        """When the latest probe began."""
        self._refusal: str | None = None

    @property
    def waiting(self) -> int:
        """Writes that are not durable yet."""
        return self._writer.waiting

    async def close(self) -> None:
        """Write what waits, finish the reads in hand, release everything."""
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
            raise StoreUnavailable(f"a write takes longer than {CHECK_TIMEOUT_SECONDS:.0f} s: {self._slow}")
        if self._refusal is not None:
            raise StoreUnavailable(self._refusal)

    async def _probe(self) -> None:
        self._refusal = None
        try:
            await self._writer.run(lambda connection: connection.execute(self._sql["probe"]).rowcount)
        except StoreError as error:
            self._refusal = str(error)
        finally:
            self._probing = None
