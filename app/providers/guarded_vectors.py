"""Calls to a vector database behind a guard: within the bounds, and not while its circuit breaker rests.

A wrapper around `app.ports.vectors.VectorStore`. `check` passes the guard by: it is there to find out
whether the database serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.ports.models import CallContext
from app.ports.vectors import Filter, IndexInfo, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.providers.guard import Guard

_DESCRIBING: Final = CallContext(
    run_id="", path="", attempt=1, idempotency_key="", timeout_seconds=30.0, tenant=""
)
"""Descriptions come without a context."""


class GuardedVectors:
    """A `VectorStore` behind a guard."""

    def __init__(self, inner: VectorStore, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard
        self._lane = guard.lane("")

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See `VectorStore`."""
        guard, lane = self._guard, self._lane
        with guard.begin(lane, 0, context) or await guard.wait(lane, 0, context) as call:
            return await self._inner.search(index, query, context=call.context)

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See `VectorStore`."""
        guard, lane = self._guard, self._lane
        with guard.begin(lane, 0, context) or await guard.wait(lane, 0, context) as call:
            return await self._inner.upsert(
                index, records, namespace=namespace, context=call.context, model=model
            )

    async def delete(
        self,
        index: str,
        *,
        ids: Sequence[str] | None,
        filter: Filter | None,
        delete_all: bool,
        namespace: str | None,
        context: CallContext,
    ) -> int:
        """See `VectorStore`."""
        guard, lane = self._guard, self._lane
        with guard.begin(lane, 0, context) or await guard.wait(lane, 0, context) as call:
            return await self._inner.delete(
                index,
                ids=ids,
                filter=filter,
                delete_all=delete_all,
                namespace=namespace,
                context=call.context,
            )

    async def describe(self, index: str) -> IndexInfo:
        """See `VectorStore`."""
        guard, lane = self._guard, self._lane
        with guard.begin(lane, 0, _DESCRIBING) or await guard.wait(lane, 0, _DESCRIBING):
            return await self._inner.describe(index)

    async def check(self) -> None:
        """See `VectorStore`."""
        await self._inner.check()
