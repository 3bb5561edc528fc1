"""What every `VectorStore` does, whoever wrote it. An adapter joins by one line in `ENTRIES`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import math
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.ports.models import CallContext
from app.ports.vector_filters import parse_filter
from app.ports.vectors import Filter, Hybrid, VectorHit, VectorQuery, VectorRecord, VectorStore
from tests.conformance.vector_vendors import chroma, embedded, pgvector, pinecone, qdrant, weaviate
from tests.conformance.vector_vendors.entry import Entry

CALL = CallContext(run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=30.0)

ENTRIES: Final[Mapping[str, Entry]] = {
    "embedded": embedded.CACHED,
    "embedded, no cache": embedded.UNCACHED,
    "embedded, contracts": embedded.CONTRACTED,
    "qdrant": qdrant.QDRANT,
    "chroma": chroma.CHROMA,
    "chroma, real server": chroma.CHROMA_SERVER,
    "pinecone": pinecone.PINECONE,
    "weaviate": weaviate.WEAVIATE,
    "pgvector": pgvector.EXACT,
    "pgvector, hnsw": pgvector.HNSW,
}

NAMES: Final = [
    pytest.param(name, marks=pytest.mark.servers) if entry.has_server else name
    for name, entry in ENTRIES.items()
]

Address = Callable[[Entry], str]


@pytest.fixture(scope="session")
def address() -> Iterator[Address]:
    """What an entry starts, started when it is first asked for."""
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda entry: stack.enter_context(entry.start()))


@pytest.fixture(params=NAMES)
def entry(request: pytest.FixtureRequest) -> Entry:
    return ENTRIES[request.param]


@pytest.fixture
async def store(entry: Entry, address: Address, tmp_path: Path) -> AsyncIterator[VectorStore]:
    async with entry.open(tmp_path, address(entry)) as opened:
        yield opened


def record(id: str, *vector: float, **metadata: Any) -> VectorRecord:
    return VectorRecord(id=id, vector=vector, metadata=metadata)


async def put(
    store: VectorStore, *records: VectorRecord, index: str = "notes", namespace: str | None = None
) -> int:
    return await store.upsert(index, records, namespace=namespace, context=CALL)


async def find(
    store: VectorStore,
    *vector: float,
    index: str = "notes",
    top_k: int = 10,
    filter: Filter | None = None,
    namespace: str | None = None,
    include_metadata: bool = False,
    include_vectors: bool = False,
    hybrid: Hybrid | None = None,
) -> Sequence[VectorHit]:
    query = VectorQuery(
        vector=vector,
        top_k=top_k,
        filter=filter,
        namespace=namespace,
        include_metadata=include_metadata,
        include_vectors=include_vectors,
        hybrid=hybrid,
    )
    return await store.search(index, query, context=CALL)


async def delete(
    store: VectorStore,
    *,
    index: str = "notes",
    ids: Sequence[str] | None = None,
    filter: Filter | None = None,
    delete_all: bool = False,
    namespace: str | None = None,
) -> int:
    return await store.delete(
        index, ids=ids, filter=filter, delete_all=delete_all, namespace=namespace, context=CALL
    )


def ids(hits: Sequence[VectorHit]) -> list[str]:
    return [hit.id for hit in hits]


class TestErrors:
    async def test_an_unknown_index_is_not_found_and_a_near_name_is_offered(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0), index="handbook")
        with pytest.raises(PermanentError, match=r"'handbok'.*did you mean 'handbook'") as caught:
            await find(store, 1, 0, index="handbok")
        assert caught.value.error_class == "not_found"
        for attempt in (store.describe("nowhere"), delete(store, index="nowhere", delete_all=True)):
            with pytest.raises(PermanentError) as caught:
                await attempt
            assert caught.value.error_class == "not_found"

    async def test_a_query_of_another_length_is_refused_with_both_lengths(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0, 0))
        with pytest.raises(PermanentError, match=r"2 dimensions.*'notes' has 3|'notes'.* 3 .* 2 ") as caught:
            await find(store, 1, 0)
        assert caught.value.error_class == "invalid_request"

    async def test_an_upsert_with_one_bad_record_stores_none(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0))
        for bad in (
            record("c", 1, 0, 0),
            record("c", math.nan, 0),
            record("c", math.inf, 0),
            record("", 1, 0),
        ):
            with pytest.raises(PermanentError) as caught:
                await put(store, record("b", 0, 1), bad)
            assert caught.value.error_class == "invalid_request"
        assert ids(await find(store, 1, 0)) == ["a"]

    async def test_a_new_index_is_not_created_by_a_refused_upsert(self, store: VectorStore) -> None:
        with pytest.raises(PermanentError):
            await put(store, record("a", 1, 0), record("b", 1, 0, 0))
        with pytest.raises(PermanentError, match="no vector index 'notes'"):
            await store.describe("notes")

    @pytest.mark.parametrize("value", [{"nested": 1}, [1, 2], [["a"]], math.nan, b"bytes", 2**80])
    async def test_metadata_of_another_shape_is_refused_by_its_name(
        self, store: VectorStore, value: object
    ) -> None:
        with pytest.raises(PermanentError, match="'a'") as caught:
            await put(store, record("a", 1, 0, odd=value))
        assert caught.value.error_class == "invalid_request"

    async def test_two_records_with_one_id_are_refused(self, store: VectorStore) -> None:
        with pytest.raises(PermanentError, match="'a'"):
            await put(store, record("a", 1, 0), record("a", 0, 1))

    @pytest.mark.parametrize("top_k", [0, -1, 1_000_000])
    async def test_an_absurd_top_k_is_refused(self, store: VectorStore, top_k: int) -> None:
        await put(store, record("a", 1, 0))
        with pytest.raises(PermanentError, match=str(top_k)):
            await find(store, 1, 0, top_k=top_k)

    @pytest.mark.parametrize(
        "what",
        [
            {},
            {"ids": ["a"], "delete_all": True},
            {"ids": ["a"], "filter": {"x": 1}},
            {"filter": {}},
            {"filter": {"x": {"$near": 1}}},
        ],
    )
    async def test_a_delete_that_does_not_say_what_deletes_nothing(
        self, store: VectorStore, what: dict[str, Any]
    ) -> None:
        await put(store, record("a", 1, 0, x=1))
        with pytest.raises(PermanentError) as caught:
            await delete(store, **what)
        assert caught.value.error_class == "invalid_request"
        assert ids(await find(store, 1, 0)) == ["a"]

    async def test_half_a_surrogate_pair_is_refused_wherever_it_stands(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0))
        for attempt in (
            put(store, record("\ud800", 1, 0)),
            put(store, record("b", 1, 0, x="\ud800")),
            put(store, record("b", 1, 0), index="\ud800"),
            put(store, record("b", 1, 0), namespace="\ud800"),
            find(store, 1, 0, index="\ud800"),
            find(store, 1, 0, namespace="\ud800"),
            delete(store, ids=["\ud800"]),
        ):
            with pytest.raises(PermanentError) as caught:
                await attempt
            assert caught.value.error_class == "invalid_request"

    async def test_a_hybrid_search_is_made_or_refused(self, store: VectorStore, entry: Entry) -> None:
        await put(store, record("a", 1, 0, text="plants"), record("b", 0, 1, text="animals"))
        search = find(store, 1, 0, hybrid=Hybrid(text="animals", alpha=0.0))
        if "hybrid" in entry.missing:
            with pytest.raises(PermanentError, match="hybrid") as caught:
                await search
            assert caught.value.error_class == "invalid_request"
        else:
            assert ids(await search)[0] == "b"


class TestSearch:
    async def test_the_nearest_come_first_and_no_more_than_asked_for(self, store: VectorStore) -> None:
        await put(store, record("far", -1, 0), record("near", 2, 0.1), record("side", 0, 5))
        hits = await find(store, 1, 0, top_k=2)
        assert ids(hits) == ["near", "side"]
        assert hits[0].score > hits[1].score

    async def test_cosine_ignores_length(self, store: VectorStore) -> None:
        await put(store, record("long", 100, 1), record("exact", 0.001, 0))
        hits = await find(store, 7, 0)
        assert ids(hits) == ["exact", "long"]
        assert hits[0].score == pytest.approx(1.0, abs=1e-6)

    async def test_equal_scores_are_ordered_by_id(self, store: VectorStore, entry: Entry) -> None:
        names = [f"r{n:03}" for n in range(100)]
        await put(store, *(record(name, 0.3, 0.1, 0.7) for name in reversed(names)))
        found = ids(await find(store, 1, 2, 3, top_k=7))
        assert found == (sorted(found) if "ties" in entry.weaker else names[:7])
        assert len(set(found)) == 7
        everything = ids(await find(store, 1, 2, 3, top_k=100))
        assert everything == sorted(set(everything))
        # An approximate index may pass over some of a hundred that are all equally near.
        assert len(everything) >= (90 if "ties" in entry.weaker else 100)

    async def test_vectors_and_metadata_come_only_when_asked_for(
        self, store: VectorStore, entry: Entry
    ) -> None:
        await put(store, record("a", 3, 4, text="hello", tags=["x", "y"], year=2024, open=True, gone=None))
        [bare] = await find(store, 1, 0)
        [full] = await find(store, 1, 0, include_metadata=True, include_vectors=True)
        assert (bare.metadata, bare.vector) == (None, None)
        assert full.vector == pytest.approx([0.6, 0.8] if "vector lengths" in entry.weaker else [3.0, 4.0])
        assert full.metadata == {
            "text": "hello",
            "tags": ["x", "y"],
            "year": 2024,
            "open": True,
            "gone": None,
        }

    async def test_a_namespace_that_holds_nothing_has_no_hits(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0))
        assert ids(await find(store, 1, 0, namespace="empty")) == []

    async def test_a_vector_of_zeros_scores_nothing_or_is_refused(
        self, store: VectorStore, entry: Entry
    ) -> None:
        writing = put(store, record("zero", 0, 0), record("a", 1, 0))
        if "vectors of zeros" in entry.missing:
            with pytest.raises(PermanentError, match=entry.says) as caught:
                await writing
            assert caught.value.error_class == "invalid_request"
            return
        await writing
        hits = await find(store, 1, 0)
        assert [(hit.id, round(hit.score, 6)) for hit in hits] == [("a", 1.0), ("zero", 0.0)]


class TestWriting:
    async def test_upsert_counts_and_replaces_vector_and_metadata(self, store: VectorStore) -> None:
        assert await put(store, record("a", 1, 0, v=1), record("b", -1, 1)) == 2
        assert await put(store, record("a", 0, 1, w=2)) == 1
        [hit] = await find(store, 0, 1, top_k=1, include_metadata=True)
        assert (hit.id, hit.metadata) == ("a", {"w": 2})
        assert (await store.describe("notes")).count == 2

    async def test_writes_are_seen_by_the_next_search(self, store: VectorStore, entry: Entry) -> None:
        await put(store, *(record(f"r{n}", 1, n, kind="even" if n % 2 == 0 else "odd") for n in range(20)))
        odd = {"kind": "odd"}
        assert len(await find(store, 1, 0, top_k=50, filter=odd)) == 10
        await put(store, record("r0", 1, 0, kind="odd"), record("new", 1, 0, kind="odd"))
        assert len(await find(store, 1, 0, top_k=50, filter=odd)) == 12
        count = await delete(store, ids=["r0", "r7", "absent"])
        assert "delete counts" in entry.weaker or count == 2
        assert set(ids(await find(store, 1, 0, top_k=50, filter=odd))) == {
            "r1", "r3", "r5", "r9", "r11", "r13", "r15", "r17", "r19", "new"
        }  # fmt: skip

    async def test_nothing_to_upsert_writes_nothing(self, store: VectorStore) -> None:
        assert await put(store) == 0

    async def test_delete_by_filter_and_all_stay_in_their_namespace(
        self, store: VectorStore, entry: Entry
    ) -> None:
        for namespace in (None, "other"):
            await put(
                store, record("a", 1, 0, x=1), record("b", 1, 0, x=2), record("c", 0, 1), namespace=namespace
            )
        count = await delete(store, filter={"x": {"$gte": 2}})
        assert "delete counts" in entry.weaker or count == 1
        assert sorted(ids(await find(store, 1, 0))) == ["a", "c"]
        count = await delete(store, delete_all=True, namespace="other")
        assert "delete counts" in entry.weaker or count == 3
        assert ids(await find(store, 1, 0, namespace="other")) == []
        assert sorted(ids(await find(store, 1, 0))) == ["a", "c"]

    async def test_namespaces_part_an_index(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0, where="default"))
        await put(store, record("a", 1, 0, where="blue"), namespace="blue")
        for namespace, where in ((None, "default"), ("blue", "blue")):
            [hit] = await find(store, 1, 0, namespace=namespace, include_metadata=True)
            assert hit.metadata == {"where": where}

    async def test_an_index_keeps_its_dimensions_when_it_is_emptied(self, store: VectorStore) -> None:
        await put(store, record("a", 1, 0))
        await delete(store, delete_all=True)
        info = await store.describe("notes")
        assert (info.name, info.dimensions, info.metric, info.count) == ("notes", 2, "cosine", 0)
        assert ids(await find(store, 1, 0)) == []

    async def test_many_at_once_lose_nothing(self, store: VectorStore) -> None:
        await asyncio.gather(*(put(store, record(f"r{n}", 1, n)) for n in range(50)))
        assert (await store.describe("notes")).count == 50

    async def test_the_check_passes(self, store: VectorStore) -> None:
        await store.check()


BOOKS = {
    "dune": {"title": "Dune", "year": 1965, "price": 9.5, "tags": ["desert", "space"], "sold": True},
    "emma": {"title": "Emma", "year": 1815, "price": 5, "tags": ["love"], "sold": False},
    "iliad": {"title": "Iliad", "tags": [], "sold": True, "year": None},
}

FILTERS: list[tuple[Mapping[str, Any], set[str]]] = [
    ({}, {"dune", "emma", "iliad"}),
    ({"title": "Dune"}, {"dune"}),
    ({"title": "dune"}, set()),
    ({"year": 1965.0}, {"dune"}),
    ({"year": "1965"}, set()),
    ({"sold": True}, {"dune", "iliad"}),
    ({"sold": 1}, set()),
    ({"tags": "space"}, {"dune"}),
    ({"tags": {"$ne": "space"}}, {"emma", "iliad"}),
    ({"title": {"$ne": "Dune"}}, {"emma", "iliad"}),
    ({"year": {"$ne": 1965}}, {"emma", "iliad"}),
    ({"year": {"$gt": 1815}}, {"dune"}),
    ({"year": {"$gte": 1815}}, {"dune", "emma"}),
    ({"year": {"$gte": 1800, "$lt": 1900}}, {"emma"}),
    ({"price": {"$lte": 9.5}}, {"dune", "emma"}),
    ({"title": {"$gt": "Dz"}}, {"emma", "iliad"}),
    ({"title": {"$lt": 3}}, set()),
    ({"title": {"$in": ["Emma", "Iliad", "Odyssey"]}}, {"emma", "iliad"}),
    ({"tags": {"$in": ["love", "desert"]}}, {"dune", "emma"}),
    ({"tags": {"$nin": ["love"]}}, {"dune", "iliad"}),
    ({"title": {"$in": []}}, set()),
    ({"title": {"$nin": []}}, {"dune", "emma", "iliad"}),
    ({"year": {"$exists": True}}, {"dune", "emma"}),
    ({"year": {"$exists": False}}, {"iliad"}),
    ({"tags": {"$exists": False}}, {"iliad"}),
    ({"absent": {"$exists": False}}, {"dune", "emma", "iliad"}),
    ({"absent": {"$gt": 0}}, set()),
    ({"sold": True, "year": {"$exists": True}}, {"dune"}),
    ({"$and": [{"sold": True}, {"tags": "space"}]}, {"dune"}),
    ({"$or": [{"year": 1815}, {"tags": "desert"}]}, {"dune", "emma"}),
    ({"$not": {"$or": [{"year": 1815}, {"tags": "desert"}]}}, {"iliad"}),
    ({"$not": {"year": {"$gt": 1900}}}, {"emma", "iliad"}),
    ({"$and": [{"$not": {"sold": False}}, {"$not": {"title": "Dune"}}]}, {"iliad"}),
]


@pytest.mark.parametrize(("filter", "expected"), FILTERS, ids=[str(case[0]) for case in FILTERS])
async def test_a_filter_lets_through_what_it_says_or_is_refused(
    store: VectorStore, entry: Entry, filter: Mapping[str, Any], expected: set[str]
) -> None:
    await put(store, *(VectorRecord(id=key, vector=[1, 0], metadata=data) for key, data in BOOKS.items()))
    if entry.refuses(parse_filter(filter)):
        with pytest.raises(PermanentError, match=entry.says) as caught:
            await find(store, 1, 0, filter=filter)
        assert caught.value.error_class == "invalid_request"
        return
    assert set(ids(await find(store, 1, 0, filter=filter))) == expected


@pytest.mark.parametrize("filter", [case[0] for case in FILTERS if case[0]])
async def test_deleting_by_a_filter_leaves_what_it_does_not_find(
    store: VectorStore, entry: Entry, filter: Mapping[str, Any]
) -> None:
    await put(store, *(VectorRecord(id=key, vector=[1, 0], metadata=data) for key, data in BOOKS.items()))
    if entry.refuses(parse_filter(filter)):
        with pytest.raises(PermanentError, match=entry.says):
            await delete(store, filter=filter)
        assert len(await find(store, 1, 0)) == len(BOOKS)
        return
    found = set(ids(await find(store, 1, 0, filter=filter)))
    count = await delete(store, filter=filter)
    assert "delete counts" in entry.weaker or count == len(found)
    assert set(ids(await find(store, 1, 0))) == BOOKS.keys() - found


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("name", NAMES)
def test_search_equals_brute_force(name: str, address: Address, data: st.DataObject) -> None:
    entry = ENTRIES[name]
    numbers = st.integers(-3, 3)
    dimensions = data.draw(st.integers(1, 5))
    vector = st.tuples(*[numbers] * dimensions)
    vectors = data.draw(
        st.dictionaries(
            st.text("abcdef", min_size=1, max_size=3),
            vector.filter(any) if "vectors of zeros" in entry.missing else vector,
            min_size=1,
            max_size=30,
        )
    )
    query = data.draw(vector)
    top_k = data.draw(st.integers(1, 40))

    async def search() -> Sequence[VectorHit]:
        with tempfile.TemporaryDirectory() as folder:
            async with entry.open(Path(folder), address(entry)) as store:
                await put(store, *(record(key, *vector) for key, vector in vectors.items()))
                return await find(store, *query, top_k=top_k)

    hits = asyncio.run(search())
    expected = {key: _cosine(query, vector) for key, vector in vectors.items()}
    assert len(hits) == min(top_k, len(vectors)) == len(set(ids(hits)))
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.id] for hit in hits], abs=1e-6)
    best = sorted(expected.values(), reverse=True)[: len(hits)]
    assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-6)
    for first, second in itertools.pairwise(hits):
        assert (-first.score, first.id) < (-second.score, second.id)
        if vectors[first.id] == vectors[second.id]:
            assert first.id < second.id


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0
