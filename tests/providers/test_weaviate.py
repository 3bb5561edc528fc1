"""Weaviate: what goes over the wire, how names and strings are written, what answers and errors come to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from graphql import parse
from pydantic import SecretStr

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vectors import Hybrid, Metric, VectorHit, VectorQuery, VectorRecord
from app.providers.transport import Transport
from app.providers.weaviate.adapter import Weaviate, WeaviateConfig
from tests.conformance.vector_vendors.weaviate import SPEC
from tests.conformance.vector_vendors.weaviate_server import API_KEY, WeaviateServer
from tests.providers.specs import load_spec

CONFIG = WeaviateConfig(name="weaviate-main", api_key=SecretStr(API_KEY))
NASTY = [
    '"}) {Get{x}}',
    "\\",
    '\\"',
    "\n\t\r\b\f\0",
    "\x7f\u2028",
    "{operator: Or}",
    "🦊 ü",
    "n$v",
    "#",
    '"""',
]


@pytest.fixture
def server() -> WeaviateServer:
    return WeaviateServer(load_spec(SPEC), delete_limit=3)


@pytest.fixture
async def transport(server: WeaviateServer) -> AsyncIterator[Transport]:
    opened = Transport.over_httpx(httpx.MockTransport(server.answer))
    yield opened
    await opened.aclose()


@pytest.fixture
def store(transport: Transport) -> Weaviate:
    return Weaviate(CONFIG, transport)


def record(id: str, *vector: float, **metadata: Any) -> VectorRecord:
    return VectorRecord(id=id, vector=vector or (1.0, 0.0), metadata=metadata)


async def put(
    store: Weaviate,
    context: CallContext,
    *records: VectorRecord,
    index: str = "kb",
    namespace: str | None = None,
) -> int:
    return await store.upsert(index, records, namespace=namespace, context=context)


async def find(
    store: Weaviate, context: CallContext, *vector: float, index: str = "kb", **options: Any
) -> list[VectorHit]:
    query = VectorQuery(vector=vector or (1.0, 0.0), **{"top_k": 10, **options})
    return list(await store.search(index, query, context=context))


async def delete(store: Weaviate, context: CallContext, **what: Any) -> int:
    selection = {"ids": None, "filter": None, "delete_all": False, "namespace": None, **what}
    return await store.delete("kb", context=context, **selection)


def refusing(path: str, status: int, body: Any) -> Any:
    def failing(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(status, json=body) if request.url.path == path else None

    return failing


class TestRefusals:
    async def test_a_key_that_is_refused_is_told_to_the_operator(self, transport: Transport) -> None:
        store = Weaviate(replace(CONFIG, api_key=SecretStr("wrong-key")), transport)
        with pytest.raises(PermanentError) as caught:
            await store.check()
        assert caught.value.error_class == "authentication"
        assert "wrong-key" not in str(caught.value)

    @pytest.mark.parametrize(("status", "message"), [(422, "graphql api is disabled"), (410, "gone")])
    async def test_a_server_without_graphql_is_told_with_what_to_do(
        self, store: Weaviate, server: WeaviateServer, context: CallContext, status: int, message: str
    ) -> None:
        await put(store, context, record("a"))
        server.failing = refusing("/v1/graphql", status, {"error": [{"message": message}]})
        with pytest.raises(PermanentError, match="DISABLE_GRAPHQL") as caught:
            await find(store, context)
        assert caught.value.error_class == "permission"

    async def test_a_collection_of_others_is_not_touched(
        self, transport: Transport, server: WeaviateServer, context: CallContext
    ) -> None:
        await put(Weaviate(CONFIG, transport), context, record("a"))
        server.classes["Index_kb"]["description"] = "articles"
        other = Weaviate(CONFIG, transport)
        for attempt in (find(other, context), put(other, context, record("b"))):
            with pytest.raises(PermanentError, match="'Index_kb' was not made by this service") as caught:
                await attempt
            assert caught.value.error_class == "invalid_request"

    @pytest.mark.parametrize("hybrid", [Hybrid(text="x", alpha=1.5), Hybrid(text=" ")])
    async def test_a_hybrid_search_that_makes_no_sense_is_refused_unasked(
        self, store: Weaviate, server: WeaviateServer, context: CallContext, hybrid: Hybrid
    ) -> None:
        with pytest.raises(PermanentError, match="hybrid search"):
            await find(store, context, hybrid=hybrid)
        assert server.requests == []

    @pytest.mark.parametrize(
        ("place", "metadata"),
        [({"index": "x" * 300}, {}), ({"namespace": "Ü" * 21}, {}), ({}, {"k" * 300: 1})],
    )
    async def test_names_too_long_are_refused_unasked(
        self,
        store: Weaviate,
        server: WeaviateServer,
        context: CallContext,
        place: dict[str, str],
        metadata: dict[str, Any],
    ) -> None:
        with pytest.raises(PermanentError, match="too long"):
            await put(store, context, record("a", **metadata), **place)
        assert server.requests == []

    @pytest.mark.parametrize(
        ("message", "error_class"),
        [
            ("no such prop with name 'x' found in class", "invalid_request"),
            ("vector lengths don't match: 2 vs 3", "invalid_request"),
            ("local shard: context deadline exceeded", "server_error"),
        ],
    )
    async def test_errors_within_a_success_are_errors(
        self,
        store: Weaviate,
        server: WeaviateServer,
        context: CallContext,
        message: str,
        error_class: str,
    ) -> None:
        await put(store, context, record("a"))
        answer = {"data": {"Get": {}}, "errors": [{"message": message}]}
        server.failing = refusing("/v1/graphql", 200, answer)
        with pytest.raises(CallError) as caught:
            await find(store, context)
        assert caught.value.error_class == error_class
        assert isinstance(caught.value, TemporaryError) is (error_class == "server_error")

    @pytest.mark.parametrize(
        "answer", [[], {"data": None}, {"data": {"Get": {"Index_kb": [{"record": "a"}]}}}]
    )
    async def test_an_answer_that_cannot_be_read_is_temporary(
        self, store: Weaviate, server: WeaviateServer, context: CallContext, answer: Any
    ) -> None:
        await put(store, context, record("a"))
        server.failing = refusing("/v1/graphql", 200, answer)
        with pytest.raises(TemporaryError) as caught:
            await find(store, context)
        assert caught.value.error_class == "invalid_output"


class TestWriting:
    @pytest.mark.parametrize(
        ("why", "expected"), [("invalid vector", PermanentError), ("no space left", TemporaryError)]
    )
    async def test_an_object_that_is_refused_is_an_error_that_names_the_record(
        self,
        store: Weaviate,
        server: WeaviateServer,
        context: CallContext,
        why: str,
        expected: type[CallError],
    ) -> None:
        server.refusing["b"] = why
        with pytest.raises(expected, match=rf"wrote 2 of 3 records; 'b' was refused: {why}"):
            await put(store, context, record("a"), record("b"), record("c"))

    async def test_many_records_go_in_batches_in_order(
        self, store: Weaviate, server: WeaviateServer, context: CallContext
    ) -> None:
        assert await put(store, context, *(record(f"r{n}") for n in range(1100))) == 1100
        batches = [body["objects"] for _, path, body in server.requests if path == "/v1/batch/objects"]
        assert [len(batch) for batch in batches] == [500, 500, 100]
        sent = [item["properties"]["record"] for batch in batches for item in batch]
        assert sent == [f"r{n}" for n in range(1100)]

    async def test_a_field_of_several_kinds_is_kept_by_kind(
        self, store: Weaviate, context: CallContext
    ) -> None:
        await put(store, context, record("n", x=1), record("t", x="1"), record("b", x=True))
        for value, expected in ((1, "n"), ("1", "t"), (True, "b")):
            assert [hit.id for hit in await find(store, context, filter={"x": value})] == [expected]
        found = await find(store, context, filter={"x": {"$in": [1, True]}})
        assert [hit.id for hit in found] == ["b", "n"]

    async def test_properties_that_another_process_declared_are_used(
        self, store: Weaviate, transport: Transport, context: CallContext
    ) -> None:
        await put(store, context, record("a", x=1))
        other = Weaviate(CONFIG, transport)
        await put(other, context, record("b", y=2))
        assert [hit.id for hit in await find(store, context, filter={"y": 2})] == ["b"]
        assert await put(store, context, record("c", y=3)) == 1
        assert await put(store, context, record("d", z=3)) == 1
        assert await put(other, context, record("e", z=4)) == 1

    async def test_an_index_made_anew_with_other_dimensions_is_noticed(
        self, store: Weaviate, server: WeaviateServer, context: CallContext
    ) -> None:
        await put(store, context, record("a"))
        server.classes.clear()
        assert await put(store, context, record("b", 1.0, 0.0, 0.0)) == 1
        assert (await store.describe("kb")).dimensions == 3


class TestNames:
    async def test_no_two_names_meet(self, store: Weaviate, context: CallContext) -> None:
        names = ["kb", "KB", "Kb", "k_b", "k-b", "k.b", "k b", "kb_", "_6b", "Index_kb", "ü", "ns_kb"]
        for index in names:
            await put(store, context, record(f"in {index}"), index=index)
        for namespace in [*names, "default"]:
            await put(store, context, record(f"of {namespace}"), namespace=namespace)
        for index in names:
            assert [hit.id for hit in await find(store, context, index=index)] == [f"in {index}"]
        for namespace in [*names, "default"]:
            assert [hit.id for hit in await find(store, context, namespace=namespace)] == [f"of {namespace}"]
        assert (await store.describe("kb")).count == 1 + len(names) + 1

    async def test_an_index_is_offered_under_its_own_name(
        self, store: Weaviate, context: CallContext
    ) -> None:
        await put(store, context, record("a"), index="My docs/2024")
        with pytest.raises(PermanentError, match="did you mean 'My docs/2024'"):
            await find(store, context, index="My docs/2023")

    @pytest.mark.parametrize("text", NASTY)
    async def test_what_callers_write_stays_a_string(
        self, store: Weaviate, server: WeaviateServer, context: CallContext, text: str
    ) -> None:
        nasty = VectorRecord(id=text, vector=(1.0, 0.0), metadata={text: text, "list": [text]})
        await put(store, context, nasty, record("other", x="y"))
        for asked in ({text: text}, {"list": {"$in": [text, "z"]}}, {text: {"$gte": text}}):
            [hit] = await find(store, context, filter=asked)
            assert (hit.id, hit.metadata) == (text, nasty.metadata)
        await find(store, context, hybrid=Hybrid(text=text, alpha=0.5))
        queries = [body["query"] for _, path, body in server.requests if path == "/v1/graphql"]
        assert all(len(parse(query).definitions) == 1 for query in queries)
        assert await delete(store, context, ids=[text]) == 1

    @pytest.mark.parametrize("value", ["", " ", " x", "a  b"])
    async def test_strings_that_are_blank_or_begin_so_can_be_found(
        self, store: Weaviate, context: CallContext, value: str
    ) -> None:
        await put(store, context, record("a", s=value), record("b", s="x"), record("c"))
        assert [hit.id for hit in await find(store, context, filter={"s": value})] == ["a"]
        assert [hit.id for hit in await find(store, context, filter={"s": {"$exists": False}})] == ["c"]


class TestSearching:
    @pytest.mark.parametrize(
        ("metric", "best"), [("euclidean", ("near", -0.5)), ("dot", ("far", 4.0)), ("cosine", ("far", 1.0))]
    )
    async def test_a_higher_score_is_nearer_whatever_the_metric(
        self, transport: Transport, context: CallContext, metric: Metric, best: tuple[str, float]
    ) -> None:
        store = Weaviate(replace(CONFIG, metric=metric), transport)
        await put(store, context, record("near", 1.0, 0.5), record("far", 4.0, 0.0))
        hits = await find(store, context)
        assert (hits[0].id, hits[0].score) == best
        assert hits[0].score > hits[1].score
        assert (await store.describe("kb")).metric == metric

    async def test_alpha_weighs_the_words_against_the_vector(
        self, store: Weaviate, context: CallContext
    ) -> None:
        await put(
            store,
            context,
            record("near", 1.0, 0.0, text="plants", tags=["green"]),
            record("said", 0.0, 1.0, text="wild animals", tags=["fox", "hare"]),
        )
        for alpha, first in ((1.0, "near"), (0.0, "said"), (0.9, "near"), (0.1, "said")):
            hits = await find(store, context, hybrid=Hybrid(text="Fox", alpha=alpha))
            assert hits[0].id == first
        found = await find(store, context, hybrid=Hybrid(text="Fox"), filter={"tags": "green"})
        assert [hit.id for hit in found] == ["near"]

    async def test_what_no_record_can_pass_is_not_asked(
        self, store: Weaviate, server: WeaviateServer, context: CallContext
    ) -> None:
        await put(store, context, record("a", x=1))
        assert await find(store, context, filter={"never": "seen"}) == []
        assert await delete(store, context, filter={"never": "seen"}) == 0
        assert "/v1/graphql" not in {path for _, path, _ in server.requests}


class TestDeleting:
    async def test_more_than_the_server_deletes_at_once_goes_in_rounds(
        self, store: Weaviate, context: CallContext
    ) -> None:
        await put(store, context, *(record(f"r{n}", even=n % 2 == 0) for n in range(20)))
        assert await delete(store, context, filter={"even": True}) == 10
        assert await delete(store, context, delete_all=True) == 10
        assert await delete(store, context, delete_all=True) == 0

    async def test_a_namespace_that_is_not_there_had_nothing(
        self, store: Weaviate, context: CallContext
    ) -> None:
        await put(store, context, record("a", x=1))
        for what in ({"ids": ["a"]}, {"filter": {"x": 1}}, {"delete_all": True}):
            assert await delete(store, context, namespace="nowhere", **what) == 0

    async def test_objects_that_could_not_be_deleted_are_an_error(
        self, store: Weaviate, server: WeaviateServer, context: CallContext
    ) -> None:
        await put(store, context, record("a"))
        results = {"matches": 2, "limit": 3, "successful": 1, "failed": 1}
        server.failing = refusing("/v1/batch/objects", 200, {"results": results})
        with pytest.raises(TemporaryError, match="deleted 1 records and failed to delete 1"):
            await delete(store, context, delete_all=True)
