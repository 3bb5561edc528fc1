"""The Qdrant adapter beyond the contract: ids, foreign collections, metrics, requests, failures."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from qdrant_client import models

from app.configuration import database_config
from app.databases import VENDORS
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vectors import Filter, Metric, VectorHit, VectorQuery, VectorRecord, VectorStore
from app.providers.qdrant.adapter import Qdrant, QdrantConfig
from app.providers.qdrant.format import ID_KEY, NAMESPACE_KEY, point_id
from app.providers.transport import Transport
from app.settings_providers import QdrantSettings
from tests.conformance.vector_vendors.qdrant_server import API_KEY, QdrantServer
from tests.providers.specs import load_spec

UUID_1 = "3f0e5d9a-6f0a-4d1c-9d53-0f1c9f6f1a11"


@pytest.fixture
async def server() -> AsyncIterator[QdrantServer]:
    server = QdrantServer(load_spec("qdrant-openapi.json"))
    yield server
    server.close()


@pytest.fixture
async def wire(server: QdrantServer) -> AsyncIterator[Transport]:
    transport = Transport.over_httpx(httpx.MockTransport(server.answer))
    yield transport
    await transport.aclose()


@pytest.fixture
def store(wire: Transport) -> Qdrant:
    return opened(wire)


def opened(wire: Transport, metric: Metric = "cosine") -> Qdrant:
    return Qdrant(QdrantConfig(name="main", api_key=SecretStr(API_KEY), metric=metric), wire)


def is_own(sent: int | str) -> bool:
    """Whether the adapter made the id."""
    return uuid.UUID(str(sent)).version == 8


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
    @pytest.mark.parametrize(
        ("id", "sent"), [("0", 0), ("42", 42), (str(2**64 - 1), 2**64 - 1), (UUID_1, UUID_1)]
    )
    def test_what_the_server_writes_goes_as_it_is(self, id: str, sent: int | str) -> None:
        assert point_id(id, "") == sent

    @pytest.mark.parametrize("id", ["007", "-1", "+1", "1_000", "\uff11", str(2**64), "9" * 500, "a", " 1"])
    def test_another_number_or_name_gets_an_id_of_its_own(self, id: str) -> None:
        assert is_own(point_id(id, ""))
        assert point_id(id, "") != point_id(id, "blue")

    @pytest.mark.parametrize(
        "form",
        [UUID_1.upper(), UUID_1.replace("-", ""), f"{{{UUID_1}}}", f"urn:uuid:{UUID_1}", f"{UUID_1}\n"],
    )
    def test_a_uuid_in_another_form_gets_an_id_of_its_own(self, form: str) -> None:
        assert is_own(point_id(form, ""))

    def test_namespace_and_id_cannot_be_shifted(self) -> None:
        assert point_id("c", "ab") != point_id("bc", "a")

    async def test_every_id_comes_back_as_it_was(self, store: Qdrant, context: CallContext) -> None:
        ids = {"7", "007", UUID_1, UUID_1.upper(), "a/b c", "größe"}
        for namespace in (None, "blue"):
            await put(store, context, *(record(it, 1, 0) for it in ids), namespace=namespace)
            hits = await find(store, context, 1, 0, namespace=namespace)
            assert {hit.id for hit in hits} == ids
            assert all(hit.metadata == {} for hit in hits)

    async def test_nobody_names_a_record_of_another_namespace(
        self, store: Qdrant, context: CallContext
    ) -> None:
        await put(store, context, record("a", 1, 0), namespace="blue")
        theirs = str(point_id("a", "blue"))
        await put(store, context, record(theirs, 0, 1))
        selection: dict[str, Any] = {"filter": None, "delete_all": False, "context": context}
        assert await store.delete("notes", ids=["a"], namespace=None, **selection) == 0
        assert await store.delete("notes", ids=[theirs], namespace=None, **selection) == 1
        assert [hit.id for hit in await find(store, context, 1, 0, namespace="blue")] == ["a"]


class TestForeignCollections:
    async def test_points_of_other_programs_are_in_the_default_namespace(
        self, server: QdrantServer, wire: Transport, context: CallContext
    ) -> None:
        await put(opened(wire), context, record("1", 1, 0))
        payload = {"text": "theirs", "at": {"page": 3}}
        server.engine.upsert("notes", [models.PointStruct(id=2, vector=[1, 0], payload=payload)])
        hits = await find(opened(wire), context, 1, 0)
        assert [(hit.id, hit.metadata) for hit in hits] == [
            ("1", {}),
            ("2", {"text": "theirs", "at": {"page": 3}}),
        ]

    async def test_what_records_cannot_be_is_refused(
        self, server: QdrantServer, store: Qdrant, context: CallContext
    ) -> None:
        theirs: dict[str, Any] = {"size": 2, "distance": "Dot"}
        server.create("named", {"title": theirs, "body": theirs})
        server.create("manhattan", {"size": 2, "distance": "Manhattan"})
        for index, said in (("named", "no single, unnamed vector"), ("manhattan", "'Manhattan'; use one of")):
            with pytest.raises(PermanentError, match=f"'{index}' cannot be used.*{said}") as caught:
                await find(store, context, 1, 0, index=index)
            assert caught.value.error_class == "invalid_request"

    async def test_a_collection_made_anew_is_noticed(self, wire: Transport, server: QdrantServer) -> None:
        context = CallContext(run_id="r", path="s", attempt=1, idempotency_key="k", timeout_seconds=10)
        store = opened(wire)
        await put(store, context, record("a", 1, 0))
        server.engine.delete_collection("notes")
        with pytest.raises(PermanentError, match="no vector index 'notes'"):
            await find(store, context, 1, 0)
        await put(opened(wire, "dot"), context, record("b", 1, 0, 0))
        assert [hit.id for hit in await find(store, context, 3, 0, 0)] == ["b"]
        server.engine.delete_collection("notes")
        await put(opened(wire), context, record("c", 1, 0))
        assert [hit.id for hit in await find(store, context, 3, 0)] == ["c"]


class TestMetrics:
    @pytest.mark.parametrize(
        ("metric", "expected"),
        [
            ("cosine", [("near", 1.0), ("long", 0.6)]),
            ("dot", [("long", 6.0), ("near", 2.0)]),
            ("euclidean", [("near", -1.0), ("long", -((1 + 64) ** 0.5))]),
        ],
    )
    async def test_a_higher_score_is_nearer(
        self, wire: Transport, context: CallContext, metric: Metric, expected: list[tuple[str, float]]
    ) -> None:
        store = opened(wire, metric)
        await put(store, context, record("near", 1, 0), record("long", 3 if metric != "cosine" else 6, 8))
        hits = await find(store, context, 2, 0)
        assert [hit.id for hit in hits] == [name for name, _ in expected]
        assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-5)
        assert (await store.describe("notes")).metric == metric


class TestRequests:
    @pytest.mark.parametrize("name", [NAMESPACE_KEY, ID_KEY])
    async def test_a_reserved_metadata_name_is_refused(
        self, store: Qdrant, server: QdrantServer, context: CallContext, name: str
    ) -> None:
        with pytest.raises(PermanentError, match=f"'{name}' of record 'a' is a reserved name"):
            await put(store, context, record("a", 1, 0, **{name: "x"}))
        assert server.requests == []

    @pytest.mark.parametrize("index", [".", ".."])
    async def test_an_index_name_does_not_climb_the_path(
        self, store: Qdrant, server: QdrantServer, context: CallContext, index: str
    ) -> None:
        with pytest.raises(PermanentError, match="is no name"):
            await find(store, context, 1, 0, index=index)
        assert server.requests == []

    async def test_an_index_name_is_one_part_of_the_path(
        self, store: Qdrant, server: QdrantServer, context: CallContext
    ) -> None:
        with pytest.raises(PermanentError, match="no vector index 'a/b points'"):
            await find(store, context, 1, 0, index="a/b points")
        assert server.requests[0][1] == "/collections/a%2Fb%20points"

    async def test_a_large_upsert_goes_in_several_requests(
        self, store: Qdrant, server: QdrantServer, context: CallContext
    ) -> None:
        text = "x" * 1_500_000
        assert await put(store, context, *(record(f"r{n}", 1, n, text=text) for n in range(5))) == 5
        sizes = [len(body["points"]) for _, path, body in server.requests if path.endswith("/points")]
        assert sizes == [2, 2, 1]
        assert (await store.describe("notes")).count == 5

    async def test_of_two_first_upserts_both_are_kept(
        self, wire: Transport, server: QdrantServer, context: CallContext
    ) -> None:
        both_asked = asyncio.Barrier(2)

        async def together(request: httpx.Request) -> httpx.Response:
            answer = server.answer(request)
            if request.method == "GET" and answer.status_code == httpx.codes.NOT_FOUND:
                await both_asked.wait()
            return answer

        racing = Transport.over_httpx(httpx.MockTransport(together))
        await asyncio.gather(*(put(opened(racing), context, record(it, 1, 0)) for it in "ab"))
        assert {hit.id for hit in await find(opened(wire), context, 1, 0)} == {"a", "b"}
        assert server.indexed == ["notes", "notes"]

    async def test_a_collection_is_looked_at_once(
        self, store: Qdrant, server: QdrantServer, context: CallContext
    ) -> None:
        await put(store, context, record("a", 1, 0))
        server.requests.clear()
        await find(store, context, 1, 0)
        await put(store, context, record("b", 1, 0))
        assert [path.rpartition("/")[2] for _, path, _ in server.requests] == ["query", "points"]


class TestFailures:
    async def test_a_wrong_key_is_said_without_it(self, wire: Transport, context: CallContext) -> None:
        store = Qdrant(QdrantConfig(name="main", api_key=SecretStr("wrong-key")), wire)
        for attempt in (find(store, context, 1, 0), store.check()):
            with pytest.raises(PermanentError, match="refused its credentials") as caught:
                await attempt
            assert caught.value.error_class == "authentication"
            assert "wrong-key" not in str(caught.value)

    async def test_what_the_server_says_is_passed_on(self, context: CallContext) -> None:
        def busy(request: httpx.Request) -> httpx.Response:
            del request
            return httpx.Response(429, json={"status": {"error": "Rate limit"}}, headers={"retry-after": "3"})

        with pytest.raises(TemporaryError, match=r"'main' answered 429: Rate limit") as caught:
            await find(opened(Transport.over_httpx(httpx.MockTransport(busy))), context, 1, 0)
        assert (caught.value.error_class, caught.value.retry_after) == ("rate_limit", 3.0)

    @pytest.mark.parametrize(
        "answer", [{}, {"result": []}, {"result": {"points": [{"id": 1}]}}, {"result": {"points": [{}]}}]
    )
    async def test_an_answer_without_sense_is_temporary(
        self, server: QdrantServer, context: CallContext, answer: dict[str, Any]
    ) -> None:
        def half(request: httpx.Request) -> httpx.Response:
            asked = request.url.path.endswith("/query")
            return httpx.Response(200, json=answer) if asked else server.answer(request)

        store = opened(Transport.over_httpx(httpx.MockTransport(half)))
        await put(store, context, record("a", 1, 0))
        with pytest.raises(TemporaryError) as caught:
            await find(store, context, 1, 0)
        assert caught.value.error_class == "invalid_output"

    async def test_the_time_of_a_call_covers_all_its_requests(self, server: QdrantServer) -> None:
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


async def test_the_operators_settings_make_the_adapter(wire: Transport, server: QdrantServer) -> None:
    settings = QdrantSettings(api_key=SecretStr(API_KEY), base_url="http://qdrant.test:6333", metric="dot")
    config = database_config("qdrant-main", settings)
    database = VENDORS[type(config)](config, wire)
    await database.store.check()
    assert (database.name, database.vendor) == ("qdrant-main", "qdrant")
    assert server.requests == [("GET", "/collections", None)]
    assert isinstance(config, QdrantConfig)
    assert config.metric == "dot"
