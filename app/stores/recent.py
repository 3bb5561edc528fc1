"""Registered workflows that were asked for a moment ago, at hand without asking the store.

A wrapper around any `WorkflowStore`: every run by name looks its workflow up, and a look-up costs a
thread's round trip. What this process registers or deletes is seen at once; what another process does on
the same store is seen after `ttl` seconds at the latest. In the second half of that time one caller asks
anew, and the others go on with what is known: a busy service does not ask a hundred times at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from app.ports.runs import Definition, IdempotencyRecord, WorkflowRow, WorkflowStore

TTL_SECONDS: Final = 1.0
CAPACITY: Final = 1000

Key = tuple[str, str, str | None]


class RecentWorkflows:
    """`app.ports.runs.WorkflowStore`."""

    def __init__(
        self, inner: WorkflowStore, *, monotonic: Callable[[], float], ttl: float = TTL_SECONDS
    ) -> None:
        self._inner = inner
        self._monotonic = monotonic
        self._ttl = ttl
        self._rows: dict[Key, tuple[float, WorkflowRow]] = {}
        self._asked: set[Key] = set()
        self._changes = 0

    async def get(self, tenant: str, name: str, version: str | None = None) -> WorkflowRow | None:
        """See `WorkflowStore`. What does not exist is asked for every time."""
        key = (tenant, name, version)
        known = self._rows.get(key)
        if known is not None:
            left = known[0] - self._monotonic()
            if left > self._ttl / 2 or (left > 0 and key in self._asked):
                return known[1]
        changes = self._changes
        self._asked.add(key)
        try:
            row = await self._inner.get(tenant, name, version)
        finally:
            self._asked.discard(key)
        if row is not None and changes == self._changes:
            if len(self._rows) >= CAPACITY:
                self._rows.clear()
            self._rows[key] = (self._monotonic() + self._ttl, row)
        return row

    async def register(
        self, workflow: WorkflowRow, definition: Definition, idempotency: IdempotencyRecord | None = None
    ) -> WorkflowRow:
        """See `WorkflowStore`."""
        try:
            return await self._inner.register(workflow, definition, idempotency)
        finally:
            self._forget()

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[WorkflowRow]:
        """See `WorkflowStore`."""
        return await self._inner.list(tenant, limit=limit, after=after)

    async def versions(
        self, tenant: str, name: str, *, limit: int, before_revision: int | None = None
    ) -> Sequence[WorkflowRow]:
        """See `WorkflowStore`."""
        return await self._inner.versions(tenant, name, limit=limit, before_revision=before_revision)

    async def delete(self, tenant: str, name: str) -> int:
        """See `WorkflowStore`."""
        try:
            return await self._inner.delete(tenant, name)
        finally:
            self._forget()

    def _forget(self) -> None:
        """After a change nothing is trusted; a read that began before it is not kept."""
        self._changes += 1
        self._rows.clear()
