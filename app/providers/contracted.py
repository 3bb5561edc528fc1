"""Keeps each index of a vector database to vectors of one model and one length.

A wrapper around `app.ports.vectors.VectorStore`, the outermost: what is refused here waits for no turn and is
counted nowhere. Emptying an index does not end its contract; it ends when the index is gone or remade, or
when an upsert finds it empty.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.ports.errors import PermanentError
from app.ports.index_contracts import IndexContracts, Offered
from app.ports.models import CallContext
from app.ports.vector_checks import check_index, invalid
from app.ports.vectors import Filter, IndexInfo, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.providers.index_book import IndexBook


class ContractedVectors:
    """A `VectorStore` whose indexes hold what can be compared."""

    def __init__(self, inner: VectorStore, database: str, contracts: IndexContracts) -> None:
        self._inner = inner
        self._book = IndexBook(inner, database, contracts)

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See `VectorStore`. Raises `PermanentError("invalid_request")` for a query that does not fit."""
        check_index(index)
        offered = Offered(dimensions=len(query.vector), model=query.model)
        await self._book.admit(index, offered, query=True)
        async with self._minding(index):
            return await self._inner.search(index, query, context=context)

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See `VectorStore`. Raises `PermanentError("invalid_request")` for vectors that do not fit."""
        check_index(index)
        if not records:
            return await self._inner.upsert(index, records, namespace=namespace, context=context, model=model)
        offered = Offered(dimensions=_one_length(records), model=model)
        async with self._book.writing(index, offered) as filling, self._minding(index):
            count = await self._inner.upsert(
                index, records, namespace=namespace, context=context, model=model
            )
            if filling is not None:
                await self._book.learn(index, filling.offered)
        return count

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
        return await self._inner.delete(
            index, ids=ids, filter=filter, delete_all=delete_all, namespace=namespace, context=context
        )

    async def describe(self, index: str) -> IndexInfo:
        """See `VectorStore`."""
        return await self._inner.describe(index)

    async def check(self) -> None:
        """See `VectorStore`."""
        await self._inner.check()

    @asynccontextmanager
    async def _minding(self, index: str) -> AsyncIterator[None]:
        """Around a call that may find the index gone."""
        try:
            yield
        except PermanentError as error:
            if error.error_class == "not_found":
                await self._book.missed(index)
            raise


def _one_length(records: Sequence[VectorRecord]) -> int:
    first = records[0]
    dimensions = len(first.vector)
    for record in records:
        if len(record.vector) != dimensions:
            raise invalid(
                f"the vector of record {record.id!r} has {len(record.vector)} dimensions, that of "
                f"{first.id!r} has {dimensions}; embed all of them with the same model"
            )
    return dimensions
