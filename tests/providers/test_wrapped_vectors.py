"""Calls to a vector database are counted, bounded, and refused while it rests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics import Metrics
from app.observability.tracing import NullTracer
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.provider_status import Bounds
from app.ports.vectors import Filter, Hybrid, IndexInfo, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.providers.breaker import BreakerPolicy
from app.providers.wrapping import InstanceTerms, Wrapping

INFO = IndexInfo(name="i", dimensions=2, metric="cosine", count=1)


class Database:
    """Does as it is told, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.failure: Exception | None = None
        self.inside = self.most = 0

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        await self._answer(locals())
        return [VectorHit(id="a", score=1.0)]

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        await self._answer(locals())
        return len(records)

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
        await self._answer(locals())
        return 1

    async def describe(self, index: str) -> IndexInfo:
        await self._answer(locals())
        return INFO

    async def check(self) -> None:
        await self._answer(locals())

    async def _answer(self, asked: dict[str, Any]) -> None:
        self.asked.append({name: value for name, value in asked.items() if name != "self"})
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0)
        self.inside -= 1
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def wrapping(registry: CollectorRegistry) -> Wrapping:
    policy = BreakerPolicy(min_calls=3)
    return Wrapping(recorder=Metrics(registry), tracer=NullTracer(), breaker=policy)


@pytest.fixture
def store(database: Database, wrapping: Wrapping) -> VectorStore:
    terms = InstanceTerms(vendor="own", bounds=Bounds(max_concurrency=2))
    return wrapping.guarded_vectors(database, wrapping.guard("main", terms, what="database 'main'"))


def searching(context: CallContext) -> dict[str, Any]:
    return {
        "index": "i",
        "query": VectorQuery(
            vector=[1.0, 2.0], top_k=3, filter={"a": 1}, namespace="n", hybrid=Hybrid(text="x"), model="m"
        ),
        "context": context,
    }


def counted(registry: CollectorRegistry, operation: str, status: str = "success") -> float | None:
    labels = {"database": "main", "operation": operation, "status": status}
    return registry.get_sample_value("orchestrator_vector_requests_total", labels)


async def test_a_database_that_fails_is_left_alone_but_may_be_checked(
    database: Database, store: VectorStore, registry: CollectorRegistry, context: CallContext
) -> None:
    database.failure = TemporaryError("connection", "no")
    for _ in range(3):
        with pytest.raises(TemporaryError):
            await store.search(**searching(context))
    with pytest.raises(TemporaryError, match="database 'main' was not called") as refused:
        await store.describe("i")
    assert refused.value.error_class == "connection"
    assert len(database.asked) == 3
    database.failure = None
    await store.check()
    assert counted(registry, "search", "connection") == 3
    assert counted(registry, "check") == 1
    labels = {"provider": "main", "model": ""}
    assert registry.get_sample_value("orchestrator_provider_breaker_state", labels) == 2


async def test_what_the_database_refuses_opens_nothing(
    database: Database, store: VectorStore, context: CallContext
) -> None:
    database.failure = PermanentError("not_found", "there is no index 'i'", status=404)
    for _ in range(20):
        with pytest.raises(PermanentError):
            await store.search(**searching(context))
    assert len(database.asked) == 20


async def test_calls_stay_within_the_bound(
    database: Database, store: VectorStore, context: CallContext
) -> None:
    await asyncio.gather(*(store.search(**searching(context)) for _ in range(10)))
    assert (len(database.asked), database.most) == (10, 2)


async def test_every_argument_and_answer_is_handed_on_and_every_operation_counted(
    database: Database, store: VectorStore, registry: CollectorRegistry, context: CallContext
) -> None:
    record = VectorRecord(id="a", vector=[1.0, 2.0])
    upserting = {"index": "i", "records": [record], "namespace": "n", "context": context, "model": "m"}
    deleting = {
        "index": "i",
        "ids": ["a"],
        "filter": None,
        "delete_all": False,
        "namespace": None,
        "context": context,
    }
    assert [hit.id for hit in await store.search(**searching(context))] == ["a"]
    assert await store.upsert(**upserting) == 1  # type: ignore[arg-type]  # values of several types
    assert await store.delete(**deleting) == 1  # type: ignore[arg-type]  # as above
    assert await store.describe("i") == INFO
    await store.check()
    assert database.asked == [searching(context), upserting, deleting, {"index": "i"}, {}]
    for operation in ("search", "upsert", "delete", "describe", "check"):
        assert counted(registry, operation) == 1
        labels = {"database": "main", "operation": operation}
        name = "orchestrator_vector_request_duration_seconds_count"
        assert registry.get_sample_value(name, labels) == 1


async def test_a_cancelled_call_is_counted_as_that(
    wrapping: Wrapping, database: Database, registry: CollectorRegistry, context: CallContext
) -> None:
    task = asyncio.ensure_future(wrapping.vectors(database, "main").search(**searching(context)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted(registry, "search", "cancelled") == 1
