"""Pinecone: what goes over the wire, where the key goes, what its answers and errors come to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from pydantic import SecretStr

from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vectors import VectorHit, VectorQuery, VectorRecord
from app.providers.pinecone.adapter import Pinecone, PineconeConfig
from app.providers.transport import Transport
from tests.conformance.vector_vendors.pinecone import CONTROL_SPEC, DATA_SPEC
from tests.conformance.vector_vendors.pinecone_server import API_KEY, CONTROL, PineconeServer
from tests.providers.specs import load_spec

CONFIG = PineconeConfig(name="pinecone-main", api_key=SecretStr(API_KEY))
Open = Callable[[PineconeConfig], Pinecone]


@pytest.fixture
def server() -> PineconeServer:
    return PineconeServer(load_spec(CONTROL_SPEC), load_spec(DATA_SPEC))


@pytest.fixture
async def opened(server: PineconeServer) -> AsyncIterator[Open]:
    transport = Transport.over_httpx(httpx.MockTransport(server.answer))
    yield lambda config: Pinecone(config, transport)
    await transport.aclose()


@pytest.fixture
def store(opened: Open) -> Pinecone:
    return opened(CONFIG)


def record(id: str, *vector: float, **metadata: Any) -> VectorRecord:
    return VectorRecord(id=id, vector=vector or (1.0, 0.0), metadata=metadata)


async def put(
    store: Pinecone, context: CallContext, *records: VectorRecord, namespace: str | None = None
) -> int:
    return await store.upsert("kb", records, namespace=namespace, context=context)


async def find(store: Pinecone, context: CallContext, *vector: float, **options: Any) -> list[VectorHit]:
    query = VectorQuery(vector=vector, **{"top_k": 10, **options})
    return list(await store.search("kb", query, context=context))


async def delete(store: Pinecone, context: CallContext, **what: Any) -> int:
    selection = {"ids": None, "filter": None, "delete_all": False, "namespace": None, **what}
    return await store.delete("kb", context=context, **selection)


def bodies(server: PineconeServer, path: str) -> list[Any]:
    return [body for _, where, body in server.requests if where.endswith(path)]


class TestConfiguration:
    def test_a_cloud_without_a_region_is_refused(self, opened: Open) -> None:
        with pytest.raises(ValueError, match="both 'cloud' and 'region'"):
            opened(replace(CONFIG, cloud="aws"))

    def test_an_index_host_that_is_no_url_is_refused(self, opened: Open) -> None:
        with pytest.raises(ValueError, match="'kb'"):
            opened(replace(CONFIG, index_hosts={"kb": "kb.example"}))

    async def test_without_a_key_the_vendor_is_not_asked(
        self, opened: Open, server: PineconeServer, context: CallContext
    ) -> None:
        with pytest.raises(PermanentError, match="API key") as caught:
            await find(opened(replace(CONFIG, api_key=None)), context, 1.0, 0.0)
        assert caught.value.error_class == "authentication"
        assert server.requests == []

    async def test_a_key_that_is_refused_is_no_secret_told(self, opened: Open, context: CallContext) -> None:
        with pytest.raises(PermanentError) as caught:
            await opened(replace(CONFIG, api_key=SecretStr("wrong-key"))).check()
        assert caught.value.error_class == "authentication"
        assert "wrong-key" not in str(caught.value)


class TestIndexes:
    @pytest.mark.parametrize("host", ["evil.example/path", "user@evil.example", "", "evil.example?x", "a b"])
    async def test_a_host_that_is_none_gets_no_key(
        self, store: Pinecone, server: PineconeServer, context: CallContext, host: str
    ) -> None:
        server.make("kb", 2).host = host
        with pytest.raises(TemporaryError) as caught:
            await find(store, context, 1.0, 0.0)
        assert caught.value.error_class == "invalid_output"
        assert {where.partition("/")[0] for _, where, _ in server.requests} == {CONTROL}

    async def test_a_named_host_is_spoken_to_over_https(self, server: PineconeServer) -> None:
        urls: list[httpx.URL] = []

        def answer(request: httpx.Request) -> httpx.Response:
            urls.append(request.url)
            return server.answer(request)

        server.make("kb", 2)
        transport = Transport.over_httpx(httpx.MockTransport(answer))
        await Pinecone(CONFIG, transport).describe("kb")
        await transport.aclose()
        assert [url.scheme for url in urls] == ["https", "https"]

    async def test_an_emulator_on_the_same_machine_is_spoken_to_as_its_control_plane(
        self, context: CallContext
    ) -> None:
        urls: list[str] = []

        def answer(request: httpx.Request) -> httpx.Response:
            urls.append(str(request.url))
            if request.url.path == "/query":
                return httpx.Response(200, json={"matches": []})
            status = {"ready": True, "state": "Ready"}
            described = {"host": "localhost:5081", "dimension": 2, "metric": "cosine", "status": status}
            return httpx.Response(200, json=described)

        transport = Transport.over_httpx(httpx.MockTransport(answer))
        await find(Pinecone(replace(CONFIG, base_url="http://localhost:5080"), transport), context, 1.0, 0.0)
        await transport.aclose()
        assert urls == ["http://localhost:5080/indexes/kb", "http://localhost:5081/query"]

    async def test_hosts_set_by_the_operator_are_not_asked_for(
        self, opened: Open, server: PineconeServer, context: CallContext
    ) -> None:
        host = server.make("kb", 2).host
        store = opened(replace(CONFIG, index_hosts={"kb": f"https://{host}"}))
        await store.check()
        assert await put(store, context, record("a")) == 1
        assert (await store.describe("kb")).count == 1
        assert all(where.startswith(host) for _, where, _ in server.requests)

    async def test_a_missing_index_is_not_made_unless_the_operator_says_where(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        with pytest.raises(PermanentError, match=r"2 dimensions.*'cloud' and 'region'") as caught:
            await put(store, context, record("a"))
        assert caught.value.error_class == "not_found"
        assert server.indexes == {}

    async def test_an_index_that_is_being_made_is_waited_for_outside(
        self, opened: Open, server: PineconeServer, context: CallContext
    ) -> None:
        server.ready = False
        store = opened(replace(CONFIG, cloud="aws", region="us-east-1", metric="dot"))
        with pytest.raises(TemporaryError, match="not ready") as caught:
            await put(store, context, record("a"))
        assert caught.value.retry_after == 5.0
        server.indexes["kb"].ready = True
        assert await put(store, context, record("a")) == 1
        assert server.indexes["kb"].metric == "dotproduct"

    @pytest.mark.parametrize("name", ["Upper", "-kb", "kb-", "k.b", "k/../b", "x" * 46])
    async def test_a_name_that_no_index_can_have_is_refused_unasked(
        self, store: Pinecone, server: PineconeServer, name: str
    ) -> None:
        with pytest.raises(PermanentError) as caught:
            await store.describe(name)
        assert caught.value.error_class == "invalid_request"
        assert server.requests == []

    async def test_what_is_known_of_an_index_is_asked_for_once(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        for _ in range(3):
            await find(store, context, 1.0, 0.0)
        assert [method for method, where, _ in server.requests if where.startswith(CONTROL)] == ["GET"]

    async def test_an_index_made_anew_with_other_dimensions_is_noticed(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        await find(store, context, 1.0, 0.0)
        server.make("kb", 3)
        assert await find(store, context, 1.0, 0.0, 0.0) == []

    async def test_an_index_that_has_moved_is_a_temporary_error_and_then_found(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        await put(store, context, record("a"))
        server.indexes["kb"].host = "kb-elsewhere.svc.pinecone.io"
        with pytest.raises(TemporaryError, match="moved"):
            await find(store, context, 1.0, 0.0)
        assert [hit.id for hit in await find(store, context, 1.0, 0.0)] == ["a"]

    async def test_an_index_deleted_meanwhile_is_not_found(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        await put(store, context, record("a"))
        server.indexes.clear()
        for attempt in (find(store, context, 1.0, 0.0), put(store, context, record("a"))):
            with pytest.raises(PermanentError, match="no vector index 'kb'") as caught:
                await attempt
            assert caught.value.error_class == "not_found"


class TestWriting:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (record("é"), "ASCII"),
            (record("a", 0.0, 0.0), "zeros"),
            (record("a", **{"$x": 1}), r"'\$x'"),
            (record("a", orchestrator_valueless="x"), "orchestrator_valueless"),
            (record("a", big=2**53 + 1), "as a string"),
            (record("a", text="x" * 41_000), "40960"),
        ],
    )
    async def test_what_the_vendor_cannot_take_is_refused_unasked(
        self, store: Pinecone, server: PineconeServer, context: CallContext, bad: VectorRecord, message: str
    ) -> None:
        server.make("kb", 2)
        with pytest.raises(PermanentError, match=message) as caught:
            await put(store, context, record("good"), bad)
        assert caught.value.error_class == "invalid_request"
        assert server.requests == []

    async def test_many_records_go_in_requests_of_a_thousand_in_order(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        assert await put(store, context, *(record(f"r{n}") for n in range(2100)), namespace="ns") == 2100
        sent = bodies(server, "/vectors/upsert")
        assert [len(body["vectors"]) for body in sent] == [1000, 1000, 100]
        assert [it["id"] for body in sent for it in body["vectors"]] == [f"r{n}" for n in range(2100)]
        assert {body["namespace"] for body in sent} == {"ns"}

    async def test_large_records_go_in_requests_of_two_megabytes(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        records = [record(f"r{n}", text="x" * 40_000) for n in range(120)]
        assert await put(store, context, *records) == 120
        sizes = [len(orjson.dumps(body)) for body in bodies(server, "/vectors/upsert")]
        assert len(sizes) == 3
        assert max(sizes) <= 2_000_000

    async def test_a_failure_half_way_says_how_many_were_written(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)

        def failing(request: httpx.Request) -> httpx.Response | None:
            sent = bodies(server, "/vectors/upsert")
            return httpx.Response(503, headers={"retry-after": "7"}) if len(sent) == 2 else None

        server.failing = failing
        with pytest.raises(TemporaryError, match="1000 of 1500 records") as caught:
            await put(store, context, *(record(f"r{n}") for n in range(1500)))
        assert caught.value.retry_after == 7.0

    async def test_what_is_used_up_for_the_month_is_permanent(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        message = "Request failed. You've reached your write unit limit for the current month (2000000)."

        def failing(request: httpx.Request) -> httpx.Response | None:
            body = {"code": 8, "message": message, "details": []}
            return httpx.Response(429, json=body) if request.url.path == "/vectors/upsert" else None

        server.failing = failing
        with pytest.raises(PermanentError) as caught:
            await put(store, context, record("a"))
        assert caught.value.error_class == "rate_limit"

    async def test_metadata_without_a_value_and_whole_numbers_come_back_as_they_were(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        given: dict[str, Any] = {
            "gone": None,
            "none": [],
            "year": 1999,
            "price": 2.5,
            "flag": True,
            "note": "",
        }
        await put(store, context, record("a", **given))
        [hit] = await find(store, context, 1.0, 0.0)
        assert hit.metadata == given
        assert isinstance(hit.metadata["year"], int)
        stored = bodies(server, "/vectors/upsert")[0]["vectors"][0]["metadata"]
        assert stored["orchestrator_valueless"] == ["null:gone", "list:none"]


class TestSearching:
    @pytest.mark.parametrize(
        ("metric", "best"), [("euclidean", ("near", -0.5)), ("dotproduct", ("far", 4.0))]
    )
    async def test_a_higher_score_is_nearer_whatever_the_metric(
        self,
        store: Pinecone,
        server: PineconeServer,
        context: CallContext,
        metric: str,
        best: tuple[str, float],
    ) -> None:
        server.make("kb", 2, metric)
        await put(store, context, record("near", 1.0, 0.5), record("far", 4.0, 0.0))
        hits = await find(store, context, 1.0, 0.0)
        assert (hits[0].id, hits[0].score) == best
        assert hits[0].score > hits[1].score

    @pytest.mark.parametrize("answer", [b"{", b"[]", b'{"matches":[{"id":"a","score":"high"}]}'])
    async def test_an_answer_that_cannot_be_read_is_temporary(
        self, store: Pinecone, server: PineconeServer, context: CallContext, answer: bytes
    ) -> None:
        server.make("kb", 2)

        def failing(request: httpx.Request) -> httpx.Response | None:
            return httpx.Response(200, content=answer) if request.url.path == "/query" else None

        server.failing = failing
        with pytest.raises(TemporaryError) as caught:
            await find(store, context, 1.0, 0.0)
        assert caught.value.error_class == "invalid_output"

    async def test_a_refusal_is_told_in_the_vendors_words(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)

        def failing(request: httpx.Request) -> httpx.Response | None:
            body = {"code": 3, "message": "no such thing", "details": []}
            return httpx.Response(400, json=body) if request.url.path == "/query" else None

        server.failing = failing
        with pytest.raises(PermanentError, match="no such thing") as caught:
            await find(store, context, 1.0, 0.0)
        assert caught.value.error_class == "invalid_request"


class TestDeleting:
    async def test_a_namespace_that_is_not_there_had_nothing(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        for what in ({"ids": ["a"]}, {"filter": {"x": 1}}, {"delete_all": True}):
            assert await delete(store, context, namespace="nowhere", **what) == 0

    async def test_ids_are_fetched_in_short_urls_and_deleted_by_the_thousand(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        written = [record(f"r&{n}/{'x' * 60}") for n in range(1500)]
        await put(store, context, *written, namespace="a b")
        urls: list[int] = []

        def watching(request: httpx.Request) -> None:
            urls.append(len(str(request.url)))

        server.failing = watching
        wanted = [it.id for it in written] + ["absent", "absent", written[0].id]
        assert await delete(store, context, ids=wanted, namespace="a b") == 1500
        assert max(urls) < 5000
        assert [len(body["ids"]) for body in bodies(server, "/vectors/delete")] == [1000, 501]

    async def test_an_id_with_a_space_counts_unseen(
        self, store: Pinecone, server: PineconeServer, context: CallContext
    ) -> None:
        server.make("kb", 2)
        await put(store, context, record("a b"), record("c"))
        assert await delete(store, context, ids=["a b", "c"]) == 2
        assert (await store.describe("kb")).count == 0
