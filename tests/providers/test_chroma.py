"""The Chroma adapter beyond the contract: ids, foreign collections, metrics, requests, failures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.configuration import database_config
from app.databases import VENDORS
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vectors import Filter, Metric, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.providers.chroma.adapter import Chroma, ChromaConfig
from app.providers.chroma.format import EMPTY_KEY, NAMED_KEY, NAMESPACE_KEY, stored_id
from app.providers.transport import Transport
from app.settings_providers import ChromaSettings
from tests.conformance.vector_vendors.chroma_server import API_KEY, ROOT, ChromaServer


@pytest.fixture
def server() -> ChromaServer:
    return ChromaServer()


@pytest.fixture
async def wire(server: ChromaServer) -> AsyncIterator[Transport]:
    transport = Transport.over_httpx(httpx.MockTransport(server.answer))
    yield transport
    await transport.aclose()


@pytest.fixture
def store(wire: Transport) -> Chroma:
    return opened(wire)


def opened(wire: Transport, metric: Metric = "cosine") -> Chroma:
    return Chroma(ChromaConfig(name="main", api_key=SecretStr(API_KEY), metric=metric), wire)


def record(id: str, *vector: float, **metadata: Any) -> VectorRecord:
    return VectorRecord(id=id, vector=vector, metadata=metadata)


async def put(
    store: VectorStore, context: CallContext, *records: VectorRecord, namespace: str | None = None
) -> int:
    return await store.upsert("notes", records, namespace=namespace, context=context)


async def find(
    store: VectorStore,
    context: CallContext,
    *vector: float,
    index: str = "notes",
    filter: Filter | None = None,
    namespace: str | None = None,
) -> Sequence[VectorHit]:
    query = VectorQuery(vector=vector, top_k=10, filter=filter, namespace=namespace)
    return await store.search(index, query, context=context)


class TestIds:
    @pytest.mark.parametrize("id", ["a", "@ns/", "@ns/blue/a", "@ns//a", "a/b", "größe"])
    async def test_every_id_comes_back_as_it_was(self, store: Chroma, context: CallContext, id: str) -> None:
        for namespace in (None, "blue", "a/b", "@ns/"):
            await put(store, context, record(id, 1, 0), namespace=namespace)
            hits = await find(store, context, 1, 0, namespace=namespace)
            assert [(hit.id, hit.metadata) for hit in hits] == [(id, {})]

    async def test_nobody_names_a_record_of_another_namespace(
        self, store: Chroma, context: CallContext
    ) -> None:
        await put(store, context, record("a", 1, 0), namespace="blue")
        theirs = stored_id("a", "blue")
        await put(store, context, record(theirs, 0, 1))
        selection: dict[str, Any] = {"filter": None, "delete_all": False, "context": context}
        assert await store.delete("notes", ids=["a"], namespace=None, **selection) == 0
        assert await store.delete("notes", ids=[theirs], namespace=None, **selection) == 1
        assert [hit.id for hit in await find(store, context, 1, 0, namespace="blue")] == ["a"]

    def test_namespace_and_id_cannot_be_shifted(self) -> None:
        assert stored_id("b/c", "a") != stored_id("c", "a/b")


class TestForeignCollections:
    async def test_records_of_other_programs_are_in_the_default_namespace(
        self, server: ChromaServer, store: Chroma, context: CallContext
    ) -> None:
        await put(store, context, record("1", 1, 0))
        server.collections["notes"].records["theirs"] = ([1.0, 0.0], {"text": "hello"})
        hits = await find(store, context, 1, 0)
        assert [(hit.id, hit.metadata) for hit in hits] == [("1", {}), ("theirs", {"text": "hello"})]

    async def test_a_space_without_a_metric_is_refused(
        self, server: ChromaServer, store: Chroma, context: CallContext
    ) -> None:
        await put(store, context, record("1", 1, 0))
        server.collections["notes"].space = "hamming"
        with pytest.raises(PermanentError, match=r"'notes' cannot be used.*'hamming'; use one of cosine"):
            await store.describe("notes")

    async def test_a_collection_made_anew_is_noticed(
        self, server: ChromaServer, wire: Transport, context: CallContext
    ) -> None:
        store = opened(wire)
        await put(store, context, record("a", 1, 0))
        await find(store, context, 1, 0)
        server.collections.clear()
        with pytest.raises(PermanentError, match="no vector index 'notes'"):
            await find(store, context, 1, 0)
        await put(opened(wire), context, record("b", 1, 0, 0))
        assert [hit.id for hit in await find(store, context, 3, 0, 0)] == ["b"]


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("cosine", [("near", 1.0), ("long", 0.6)]),
        ("dot", [("long", 12.0), ("near", 2.0)]),
        ("euclidean", [("near", -1.0), ("long", -((16 + 64) ** 0.5))]),
    ],
)
async def test_a_higher_score_is_nearer(
    wire: Transport, context: CallContext, metric: Metric, expected: list[tuple[str, float]]
) -> None:
    store = opened(wire, metric)
    await put(store, context, record("near", 1, 0), record("long", 6, 8))
    hits = await find(store, context, 2, 0)
    assert [hit.id for hit in hits] == [name for name, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected])
    assert (await store.describe("notes")).metric == metric


class TestRequests:
    @pytest.mark.parametrize(
        "name", ["", "#document", "$year", "chroma:document", NAMED_KEY, NAMESPACE_KEY, EMPTY_KEY]
    )
    async def test_a_metadata_name_that_the_server_lacks_is_refused(
        self, store: Chroma, server: ChromaServer, context: CallContext, name: str
    ) -> None:
        with pytest.raises(PermanentError, match=r"Chroma cannot store metadata .* of record 'a'"):
            await put(store, context, record("a", 1, 0, **{name: "x"}))
        assert server.requests == []

    async def test_an_index_name_that_the_server_refuses_is_said(
        self, store: Chroma, context: CallContext
    ) -> None:
        with pytest.raises(PermanentError, match="3-512 characters") as caught:
            await store.upsert("x/y", [record("a", 1, 0)], namespace=None, context=context)
        assert caught.value.error_class == "invalid_request"

    async def test_nulls_and_empty_lists_come_back_and_can_be_replaced(
        self, store: Chroma, server: ChromaServer, context: CallContext
    ) -> None:
        await put(store, context, record("a", 1, 0, gone=None, tags=[], kept=1))
        [hit] = await find(store, context, 1, 0)
        assert hit.metadata == {"gone": None, "tags": [], "kept": 1}
        await put(store, context, record("a", 1, 0, tags=["x"]))
        [hit] = await find(store, context, 1, 0)
        assert hit.metadata == {"tags": ["x"]}
        assert server.collections["notes"].records["a"][1] == {"tags": ["x"]}

    async def test_a_large_upsert_goes_in_several_requests(
        self, store: Chroma, server: ChromaServer, context: CallContext
    ) -> None:
        assert await put(store, context, *(record(f"r{n}", 1, n) for n in range(2001))) == 2001
        text = "x" * 1_500_000
        await put(store, context, *(record(f"t{n}", 1, n, text=text) for n in range(3)))
        sizes = [len(body["ids"]) for _, path, body in server.requests if path.endswith("/upsert")]
        assert sizes == [1000, 1000, 1, 2, 1]
        gone = [f"r{n}" for n in range(2001)]
        selection: dict[str, Any] = {"filter": None, "delete_all": False, "context": context}
        assert await store.delete("notes", ids=[*gone, *gone], namespace=None, **selection) == 2001

    async def test_a_collection_is_looked_up_once(
        self, store: Chroma, server: ChromaServer, context: CallContext
    ) -> None:
        await put(store, context, record("a", 1, 0))
        await find(store, context, 1, 0)
        server.requests.clear()
        await find(store, context, 1, 0)
        await put(store, context, record("b", 1, 0))
        assert [path.rpartition("/")[2] for _, path, _ in server.requests] == ["query", "get", "upsert"]


class TestFailures:
    async def test_a_wrong_key_is_said_without_it(self, wire: Transport, context: CallContext) -> None:
        store = Chroma(ChromaConfig(name="main", api_key=SecretStr("wrong-key")), wire)
        for attempt in (find(store, context, 1, 0), store.check()):
            with pytest.raises(PermanentError, match="refused its credentials") as caught:
                await attempt
            assert caught.value.error_class == "authentication"
            assert "wrong-key" not in str(caught.value)

    @pytest.mark.parametrize(
        ("action", "answer"),
        [
            ("query", {}),
            ("query", {"ids": [["a"]], "distances": [[]], "metadatas": [[None]]}),
            ("query", {"ids": [["a"]], "distances": [["near"]], "metadatas": [[None]]}),
            ("query", {"ids": [["a"]], "distances": [[0.1]], "metadatas": [[{EMPTY_KEY: "?"}]]}),
            ("delete", {}),
        ],
    )
    async def test_an_answer_without_sense_is_temporary(
        self, server: ChromaServer, context: CallContext, action: str, answer: dict[str, Any]
    ) -> None:
        def half(request: httpx.Request) -> httpx.Response:
            asked = request.url.path.endswith(f"/{action}")
            return httpx.Response(200, json=answer) if asked else server.answer(request)

        store = opened(Transport.over_httpx(httpx.MockTransport(half)))
        await put(store, context, record("a", 1, 0))
        attempt = (
            find(store, context, 1, 0)
            if action == "query"
            else store.delete(
                "notes", ids=None, filter=None, delete_all=True, namespace=None, context=context
            )
        )
        with pytest.raises(TemporaryError) as caught:
            await attempt
        assert caught.value.error_class == "invalid_output"

    async def test_the_time_of_a_call_covers_all_its_requests(self, server: ChromaServer) -> None:
        async def stalls(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/query"):
                await asyncio.Event().wait()
            return server.answer(request)

        store = opened(Transport.over_httpx(httpx.MockTransport(stalls)))
        context = CallContext(run_id="r", path="s", attempt=1, idempotency_key="k", timeout_seconds=0.2)
        await put(store, context, record("a", 1, 0))
        with pytest.raises(TemporaryError) as caught:
            await find(store, context, 1, 0)
        assert caught.value.error_class == "timeout"


class TestSettings:
    async def test_the_operators_settings_make_the_adapter(
        self, wire: Transport, server: ChromaServer
    ) -> None:
        config = database_config("chroma-main", ChromaSettings(api_key=SecretStr(API_KEY)))
        database = VENDORS[type(config)](config, wire)
        await database.store.check()
        assert (database.name, database.vendor) == ("chroma-main", "chroma")
        assert server.requests == [("GET", ROOT, None)]

    async def test_the_key_goes_where_the_operator_says(self) -> None:
        seen: list[httpx.Request] = []

        def noting(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(200, json={"name": "d b"})

        settings = ChromaSettings(
            api_key=SecretStr(API_KEY), api_key_header="authorization", tenant="a/b", database="d b"
        )
        config = database_config("chroma-main", settings)
        transport = Transport.over_httpx(httpx.MockTransport(noting))
        await VENDORS[type(config)](config, transport).store.check()
        assert seen[0].headers["authorization"] == f"Bearer {API_KEY}"
        assert seen[0].url.raw_path == b"/api/v2/tenants/a%2Fb/databases/d%20b"
