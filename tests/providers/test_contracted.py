"""An index keeps to the model, length and metric of its first vectors; what does not fit calls nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence

import pytest

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.index_contracts import IndexContract, IndexContracts, Offered
from app.ports.models import CallContext
from app.ports.vectors import Filter, IndexInfo, Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.contracted import ContractedVectors
from app.providers.index_book import MOST_INDEXES, TRUST_SECONDS, IndexBook
from app.stores.memory import MemoryStore

CALL = CallContext(run_id="r", path="s", attempt=1, idempotency_key="r:s", timeout_seconds=5.0)
A, B = "text-embedding-3-small", "embed-english-v3.0"


class Database:
    """Takes what it is given, as databases do that know lengths only."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.shapes: dict[str, tuple[int, int]] = {}
        """Dimensions and count."""
        self.metric: Metric = "dot"
        self.failure: CallError | None = None
        """Of the next upsert."""
        self.blind: CallError | None = None
        """Why it does not describe."""
        self.gate: asyncio.Event | None = None
        """What upserts wait for."""
        self.reached = asyncio.Semaphore(0)
        """Released by each upsert that waits."""

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        self.calls.append("search")
        self._shape(index)
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
        self.calls.append("upsert")
        if self.gate is not None:
            self.reached.release()
            await self.gate.wait()
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
        if records:
            _, count = self.shapes.get(index, (0, 0))
            self.shapes[index] = (len(records[0].vector), count + len(records))
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
        self.calls.append("delete")
        dimensions, count = self._shape(index)
        self.shapes[index] = (dimensions, 0)
        return count

    async def describe(self, index: str) -> IndexInfo:
        if self.blind is not None:
            raise self.blind
        dimensions, count = self._shape(index)
        return IndexInfo(name=index, dimensions=dimensions, metric=self.metric, count=count)

    async def check(self) -> None:
        self.calls.append("check")

    def _shape(self, index: str) -> tuple[int, int]:
        if index not in self.shapes:
            raise PermanentError("not_found", f"there is no vector index {index!r}")
        return self.shapes[index]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def main_store() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def contracts(main_store: MemoryStore) -> IndexContracts:
    return main_store.index_contracts


@pytest.fixture
def vectors(database: Database, contracts: IndexContracts) -> ContractedVectors:
    return ContractedVectors(database, "main", contracts)


async def put(
    vectors: ContractedVectors, model: str | None = A, *, dimensions: int = 4, index: str = "kb"
) -> int:
    record = VectorRecord(id="a", vector=[0.5] * dimensions)
    return await vectors.upsert(index, [record], namespace=None, context=CALL, model=model)


async def find(
    vectors: ContractedVectors, model: str | None = A, *, dimensions: int = 4, index: str = "kb"
) -> Sequence[VectorHit]:
    query = VectorQuery(vector=[0.5] * dimensions, top_k=1, model=model)
    return await vectors.search(index, query, context=CALL)


async def refusal(call: Awaitable[object]) -> str:
    with pytest.raises(PermanentError) as refused:
        await call
    assert refused.value.error_class == "invalid_request"
    return str(refused.value)


# --- refusals -----------------------------------------------------------------------------------------


async def test_a_query_of_another_model_is_refused_before_any_call(
    database: Database, vectors: ContractedVectors
) -> None:
    await put(vectors)
    assert await refusal(find(vectors, B, dimensions=3)) == (
        f"index 'kb' of 'main' holds vectors of {A!r} with 4 dimensions; this query was made by {B!r} "
        "with 3 dimensions: embed it with the same model, or use another index"
    )
    assert "made by" in await refusal(find(vectors, B))
    assert "made with 3 dimensions" in await refusal(find(vectors, None, dimensions=3))
    assert database.calls == ["upsert"]


async def test_vectors_of_another_model_are_refused_before_any_call(
    database: Database, vectors: ContractedVectors
) -> None:
    await put(vectors)
    assert "these vectors were made by" in await refusal(put(vectors, B))
    assert "embed them with the same model" in await refusal(put(vectors, None, dimensions=5))
    assert database.calls == ["upsert"]


async def test_vectors_of_two_lengths_are_refused_with_the_record_that_differs(
    database: Database, vectors: ContractedVectors
) -> None:
    records = [VectorRecord(id="one", vector=[1.0]), VectorRecord(id="two", vector=[1.0, 2.0])]
    told = await refusal(vectors.upsert("kb", records, namespace=None, context=CALL))
    assert "'two' has 2 dimensions" in told
    assert "'one' has 1" in told
    assert database.calls == []


async def test_a_name_that_no_index_can_have_is_no_trouble_of_the_store(vectors: ContractedVectors) -> None:
    assert "must not be empty" in await refusal(find(vectors, index=""))
    assert "Unicode" in await refusal(put(vectors, index="\ud800"))


async def test_while_contracts_cannot_be_read_calls_are_to_be_tried_again(
    database: Database, vectors: ContractedVectors, main_store: MemoryStore
) -> None:
    await main_store.close()
    with pytest.raises(TemporaryError, match="'kb' of 'main'"):
        await find(vectors)
    assert database.calls == []


async def test_where_the_database_does_not_describe_the_contract_stands(
    database: Database, vectors: ContractedVectors
) -> None:
    await put(vectors)
    database.blind = TemporaryError("timeout", "slow")
    assert A in await refusal(put(vectors, B))


# --- what is remembered -------------------------------------------------------------------------------


async def test_the_first_upsert_that_succeeds_is_remembered(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    database.failure = TemporaryError("server_error", "not now")
    with pytest.raises(TemporaryError):
        await put(vectors, B, dimensions=7)
    assert await contracts.get("main", "kb") is None
    assert await put(vectors) == 1
    assert await put(vectors, None) == 1
    kept = IndexContract(database="main", index="kb", model=A, dimensions=4, metric="dot")
    assert await contracts.get("main", "kb") == kept
    assert await find(vectors) == await find(vectors, None) == [VectorHit(id="a", score=1.0)]


async def test_nothing_written_is_nothing_to_remember(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    assert await vectors.upsert("kb", [], namespace=None, context=CALL) == 0
    assert await contracts.get("main", "kb") is None
    assert database.calls == ["upsert"]


async def test_records_that_are_written_count_even_if_the_contract_cannot_be_kept(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    database.blind = TemporaryError("timeout", "slow")
    assert await put(vectors) == 1
    assert await contracts.get("main", "kb") is None
    database.blind = None
    await put(vectors)
    assert A in await refusal(find(vectors, B))


async def test_an_index_without_a_model_is_held_to_its_length(vectors: ContractedVectors) -> None:
    await put(vectors, None)
    assert await put(vectors, A) == await put(vectors, B) == 1
    assert "holds vectors with 4 dimensions" in await refusal(find(vectors, A, dimensions=3))


async def test_indexes_and_databases_have_contracts_of_their_own(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    other = ContractedVectors(database, "other", contracts)
    await put(vectors)
    await put(vectors, B, index="more", dimensions=2)
    await put(other, B, dimensions=2)
    assert await find(vectors)
    assert await find(other, B, dimensions=2)


async def test_another_process_keeps_to_the_same_contract(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    await put(vectors)
    assert A in await refusal(put(ContractedVectors(database, "main", contracts), B))


# --- first upserts at once ----------------------------------------------------------------------------


async def test_first_upserts_that_go_together_are_under_way_together(
    database: Database, vectors: ContractedVectors
) -> None:
    database.gate = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        writes = [group.create_task(put(vectors, model)) for model in (None, A, A, None)]
        for _ in writes:
            await database.reached.acquire()
        database.gate.set()
    assert A in await refusal(put(vectors, B))


async def test_a_first_upsert_of_another_model_waits_and_is_refused(
    database: Database, vectors: ContractedVectors
) -> None:
    database.gate = asyncio.Event()
    first = asyncio.create_task(put(vectors, A))
    second = asyncio.create_task(put(vectors, B))
    await database.reached.acquire()
    database.gate.set()
    assert await first == 1
    assert A in await refusal(second)
    assert database.calls == ["upsert"]


async def test_it_is_written_if_the_one_before_it_fails(
    database: Database, vectors: ContractedVectors
) -> None:
    database.gate = asyncio.Event()
    database.failure = PermanentError("too_large", "no")
    first = asyncio.create_task(put(vectors, A))
    second = asyncio.create_task(put(vectors, B))
    await database.reached.acquire()
    database.gate.set()
    with pytest.raises(PermanentError, match="no"):
        await first
    assert await second == 1
    assert B in await refusal(find(vectors, A))


async def test_two_processes_that_filled_an_index_at_once_are_told(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    database.gate = asyncio.Event()
    late = asyncio.create_task(put(vectors, A))
    await database.reached.acquire()
    kept = IndexContract(database="main", index="kb", model=B, dimensions=4, metric="dot")
    await contracts.remember(kept)
    database.gate.set()
    assert "at the same time" in await refusal(late)


# --- indexes that are made anew -----------------------------------------------------------------------


async def test_emptying_an_index_does_not_end_its_contract_but_it_may_be_filled_with_others(
    database: Database, vectors: ContractedVectors
) -> None:
    await put(vectors)
    await vectors.delete("kb", ids=None, filter=None, delete_all=True, namespace=None, context=CALL)
    assert A in await refusal(find(vectors, B))
    assert await put(vectors, B) == 1
    assert await find(vectors, B)
    assert B in await refusal(put(vectors, A))


async def test_an_index_that_was_remade_with_another_length_or_metric_is_learnt_anew(
    database: Database, vectors: ContractedVectors
) -> None:
    await put(vectors)
    database.shapes["kb"] = (2, 10)
    assert await find(vectors, B, dimensions=2)
    assert await put(vectors, B, dimensions=2) == 1
    assert B in await refusal(put(vectors, A, dimensions=2))
    database.metric = "cosine"
    assert await put(vectors, A, dimensions=2) == 1


async def test_an_index_that_is_gone_has_no_contract(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    await put(vectors)
    database.shapes.clear()
    with pytest.raises(PermanentError, match="no vector index"):
        await find(vectors)
    assert await contracts.get("main", "kb") is None
    await put(vectors)
    database.shapes.clear()
    assert await put(vectors, B, dimensions=9) == 1


async def test_something_else_that_is_not_found_does_not_end_a_contract(
    database: Database, vectors: ContractedVectors, contracts: IndexContracts
) -> None:
    await put(vectors)
    database.failure = PermanentError("not_found", "there is no such namespace")
    with pytest.raises(PermanentError, match="namespace"):
        await put(vectors)
    assert await contracts.get("main", "kb") is not None


async def model_of(book: IndexBook, index: str) -> str | None:
    contract = await book.admit(index, Offered(model=None, dimensions=None), query=True)
    return None if contract is None else contract.model


# --- what is at hand ----------------------------------------------------------------------------------


async def test_a_contract_of_another_process_is_seen_when_the_own_one_is_old(
    database: Database, contracts: IndexContracts
) -> None:
    now = 0.0
    book = IndexBook(database, "main", contracts, monotonic=lambda: now)
    database.shapes = {f"i{n}": (2, 1) for n in range(MOST_INDEXES + 5)}
    for index in database.shapes:
        await book.learn(index, Offered(model=A, dimensions=2))
    for index in ("i0", f"i{MOST_INDEXES}"):
        await contracts.forget("main", index)
        await contracts.remember(
            IndexContract(database="main", index=index, model=B, dimensions=2, metric="dot")
        )
    assert await model_of(book, "i0") == B  # the oldest was put away
    assert await model_of(book, f"i{MOST_INDEXES}") == A
    now = TRUST_SECONDS + 1
    assert await model_of(book, f"i{MOST_INDEXES}") == B


async def test_the_rest_of_the_port_passes_through(database: Database, vectors: ContractedVectors) -> None:
    await vectors.check()
    database.shapes["kb"] = (2, 1)
    assert (await vectors.describe("kb")).count == 1
    assert database.calls == ["check"]
