"""The approvals, the step cache and the index contracts of the in-memory store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from heapq import nsmallest

from app.ports.index_contracts import IndexContract
from app.ports.runs import APPROVAL_STATUSES, ApprovalRow
from app.stores.memory_data import MemoryData


class MemoryApprovals:
    """`app.ports.runs.ApprovalStore`."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    async def get(self, tenant: str, approval_id: str) -> ApprovalRow | None:
        self._data.require_open()
        found = self._data.approvals.get(approval_id)
        return found if found is not None and found.tenant == tenant else None

    async def list(
        self,
        tenant: str,
        *,
        statuses: frozenset[str],
        run_id: str | None = None,
        limit: int,
        after: tuple[float, str] | None = None,
    ) -> Sequence[ApprovalRow]:
        self._data.require_open()
        wanted = statuses or APPROVAL_STATUSES
        found = (
            row
            for row in self._data.approvals.values()
            if row.tenant == tenant
            and row.status in wanted
            and (run_id is None or row.run_id == run_id)
            and (after is None or _age(row) > after)
        )
        return nsmallest(limit, found, key=_age)


class MemoryStepCache:
    """`app.ports.runs.StepCache`."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    async def find(self, tenant: str, key: str, now: float) -> bytes | None:
        self._data.require_open()
        expires_at, value = self._data.cache.get((tenant, key), (now, b""))
        return value if expires_at > now else None

    async def save(self, tenant: str, key: str, value: bytes, *, expires_at: float) -> None:
        self._data.require_open()
        self._data.cache[tenant, key] = (expires_at, value)
        await asyncio.sleep(0)

    async def prune(self, now: float, *, limit: int) -> int:
        self._data.require_open()
        expired = [(at, key) for key, (at, _) in self._data.cache.items() if at <= now]
        gone = nsmallest(limit, expired)
        for _, key in gone:
            del self._data.cache[key]
        await asyncio.sleep(0)
        return len(gone)


class MemoryIndexContracts:
    """`app.ports.index_contracts.IndexContracts`."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    async def get(self, database: str, index: str) -> IndexContract | None:
        self._data.require_open()
        return self._data.index_contracts.get((database, index))

    async def remember(self, contract: IndexContract) -> IndexContract:
        self._data.require_open()
        kept = self._data.index_contracts.setdefault((contract.database, contract.index), contract)
        await asyncio.sleep(0)
        return kept

    async def forget(self, database: str, index: str) -> None:
        self._data.require_open()
        self._data.index_contracts.pop((database, index), None)
        await asyncio.sleep(0)


def _age(row: ApprovalRow) -> tuple[float, str]:
    return row.created_at, row.id
