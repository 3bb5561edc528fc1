"""Counts and traces calls to vector databases. A wrapper around `app.ports.vectors.VectorStore`.

Labels are the database's name and the operation; the status is `success`, the error's class, or
`cancelled`. Nothing of vectors, metadata and filters goes anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol

from app.observability.tracing import Tracer, VectorOperation
from app.ports.errors import CallError
from app.ports.models import CallContext
from app.ports.vectors import Filter, IndexInfo, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.providers.metered import status_of


class VectorRecorder(Protocol):
    """What is counted; a part of `app.observability.recorder.Recorder`."""

    def vector_request(self, database: str, operation: str, status: str, seconds: float) -> None:
        """A call ended."""
        ...

    def error(self, error_type: str, component: str) -> None:
        """A call failed."""
        ...


class _Call:
    """One call under way."""

    __slots__ = ("_database", "_operation", "_recorder", "_span", "_started")

    def __init__(
        self,
        recorder: VectorRecorder,
        span: AbstractContextManager[object],
        database: str,
        operation: VectorOperation,
    ) -> None:
        self._recorder = recorder
        self._span = span
        self._database = database
        self._operation = operation

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        self._span.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._span.__exit__(kind, error, trace)
        finally:
            status = status_of(error)
            if isinstance(error, CallError):
                self._recorder.error(status, "vector_database")
            seconds = time.perf_counter() - self._started
            self._recorder.vector_request(self._database, self._operation, status, seconds)


class MeteredVectors:
    """A `VectorStore` whose calls are observed."""

    def __init__(self, inner: VectorStore, database: str, recorder: VectorRecorder, tracer: Tracer) -> None:
        self._inner = inner
        self._database = database
        self._recorder = recorder
        self._tracer = tracer

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See `VectorStore`."""
        with self._call("search", index):
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
        """See `VectorStore`."""
        with self._call("upsert", index):
            return await self._inner.upsert(index, records, namespace=namespace, context=context, model=model)

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
        with self._call("delete", index):
            return await self._inner.delete(
                index, ids=ids, filter=filter, delete_all=delete_all, namespace=namespace, context=context
            )

    async def describe(self, index: str) -> IndexInfo:
        """See `VectorStore`."""
        with self._call("describe", index):
            return await self._inner.describe(index)

    async def check(self) -> None:
        """See `VectorStore`."""
        with self._call("check", None):
            await self._inner.check()

    def _call(self, operation: VectorOperation, index: str | None) -> _Call:
        span = self._tracer.vectors(operation, self._database, index)
        return _Call(self._recorder, span, self._database, operation)
