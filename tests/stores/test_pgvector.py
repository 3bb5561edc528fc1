"""The PostgreSQL vector store beyond the contract: failures, deadlines, races, filters, HNSW, hybrid."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.configuration import database_config
from app.databases import VENDORS
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vector_filters import matches, parse_filter
from app.ports.vectors import Filter, Hybrid, VectorHit, VectorQuery, VectorRecord
from app.providers.transport import Transport
from app.settings_providers import PgVectorSettings
from app.stores.pgvector.adapter import PgVector, PgVectorConfig
from app.stores.pgvector.errors import of_server
from tests.postgresql_server import PostgresServer, postgres_server
from tests.service_process import free_port

CALL = CallContext(run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=30.0)
pytestmark = pytest.mark.servers

Opened = Callable[..., PgVector]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as running:
        running.execute("CREATE EXTENSION vector")
        yield running


@pytest.fixture
def config(server: PostgresServer) -> PgVectorConfig:
    return PgVectorConfig(
        name="main", dsn=SecretStr(server.url()), schema_name=f"test_{uuid.uuid4().hex}", pool_size=4
    )


@pytest.fixture
async def opened(config: PgVectorConfig) -> AsyncIterator[Opened]:
    """A store of the configuration, changed; closed at the end."""
    stores: list[PgVector] = []

    def opening(**changes: Any) -> PgVector:
        stores.append(PgVector(replace(config, **changes)))
        return stores[-1]

    yield opening
    for store in stores:
        await store.close()


@pytest.fixture
def store(opened: Opened) -> PgVector:
    return opened()


@pytest.fixture
async def beside(server: PostgresServer) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(server.url())
    yield connection
    await connection.close()


def record(id: str, *vector: float, **metadata: Any) -> VectorRecord:
    return VectorRecord(id=id, vector=vector, metadata=metadata)


async def put(
    store: PgVector, *records: VectorRecord, index: str = "notes", namespace: str | None = None
) -> int:
    return await store.upsert(index, records, namespace=namespace, context=CALL)


async def find(
    store: PgVector,
    *vector: float,
    index: str = "notes",
    top_k: int = 10,
    filter: Filter | None = None,
    namespace: str | None = None,
    hybrid: Hybrid | None = None,
    context: CallContext = CALL,
) -> Sequence[VectorHit]:
    query = VectorQuery(vector=vector, top_k=top_k, filter=filter, namespace=namespace, hybrid=hybrid)
    return await store.search(index, query, context=context)


async def delete(store: PgVector, ids: Sequence[str], namespace: str | None = None) -> int:
    return await store.delete(
        "notes", ids=ids, filter=None, delete_all=False, namespace=namespace, context=CALL
    )


def ids(hits: Sequence[VectorHit]) -> list[str]:
    return [hit.id for hit in hits]


class TestConfiguration:
    def test_a_missing_driver_is_told_with_the_extra_that_brings_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "asyncpg", None)
        with pytest.raises(ValueError, match=r"'main'.*llm-orchestrator\[postgresql\]"):
            PgVector(PgVectorConfig(name="main"))

    @pytest.mark.parametrize("name", ["", "has space", 'quote"', "1st", "a" * 64])
    def test_a_schema_name_that_is_no_plain_name_is_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="schema_name"):
            PgVectorSettings(schema_name=name)

    async def test_settings_become_a_database_that_is_closed_with_the_service(
        self, server: PostgresServer
    ) -> None:
        parts = PgVectorSettings(host="127.0.0.1", port=server.port, ssl="disable", pool_size=2)
        config = database_config("pg-main", parts)
        assert isinstance(config, PgVectorConfig)
        transport = Transport.over_sockets()
        database = VENDORS[type(config)](config, transport)
        assert (database.name, database.vendor, database.hybrid) == ("pg-main", "pgvector", True)
        await database.store.check()
        await database.aclose()
        await transport.aclose()

    def test_no_secret_is_in_the_text_of_a_configuration(self) -> None:
        config = PgVectorConfig(
            name="main", dsn=SecretStr("postgresql://u:canary@h/d"), password=SecretStr("canary")
        )
        assert "canary" not in repr(config)


class TestFailures:
    async def test_a_malformed_dsn_is_permanent_and_not_repeated(self, opened: Opened) -> None:
        for dsn in ("http://user:canary@host/db", "postgresql://user:canary@host/db?sslmode=maybe"):
            with pytest.raises(PermanentError, match="'main' is malformed") as caught:
                await opened(dsn=SecretStr(dsn)).check()
            assert caught.value.error_class == "invalid_config"
            assert "canary" not in str(caught.value)

    async def test_a_server_that_is_not_there_is_a_connection_error(self, opened: Opened) -> None:
        store = opened(dsn=SecretStr(f"postgresql://u:canary@127.0.0.1:{free_port()}/d"))
        with pytest.raises(TemporaryError, match="'main' cannot be reached") as caught:
            await store.check()
        assert caught.value.error_class == "connection"
        assert "canary" not in str(caught.value)

    async def test_a_wrong_password_is_an_authentication_error(
        self, server: PostgresServer, opened: Opened
    ) -> None:
        server.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        rules = server.folder / "data" / "pg_hba.conf"
        rules.write_text("host all locked all scram-sha-256\n" + rules.read_text())
        server.execute("SELECT pg_reload_conf()")
        parts: dict[str, Any] = {"dsn": None, "host": "127.0.0.1", "port": server.port, "user": "locked"}
        for password in (None, SecretStr("canary")):
            with pytest.raises(PermanentError, match="'main' refused") as caught:
                await opened(**parts, password=password).check()
            assert caught.value.error_class == "authentication"
            assert "canary" not in str(caught.value)
        await opened(**parts, password=SecretStr("right")).check()

    async def test_an_unknown_database_is_a_configuration_error(
        self, server: PostgresServer, opened: Opened
    ) -> None:
        with pytest.raises(PermanentError, match="nowhere") as caught:
            await opened(dsn=SecretStr(server.url("nowhere"))).check()
        assert caught.value.error_class == "invalid_config"

    async def test_a_missing_extension_is_told_with_what_to_run_and_noticed_when_it_is_there(
        self, server: PostgresServer, opened: Opened
    ) -> None:
        url = server.create_database()
        store = opened(dsn=SecretStr(url))
        for call in (store.check(), put(store, record("a", 1, 0)), find(store, 1, 0)):
            with pytest.raises(PermanentError, match="CREATE EXTENSION vector") as caught:
                await call
            assert caught.value.error_class == "invalid_config"
        server.execute("CREATE SCHEMA elsewhere", url=url)
        server.execute("CREATE EXTENSION vector SCHEMA elsewhere", url=url)
        await put(store, record("a", 1, 0))
        assert ids(await find(store, 1, 0, filter={"x": {"$exists": False}})) == ["a"]

    async def test_a_user_that_may_not_make_the_schema_is_told_what_to_grant(
        self, server: PostgresServer, opened: Opened
    ) -> None:
        server.execute("CREATE ROLE reader LOGIN")
        store = opened(dsn=SecretStr(server.url().replace("postgres@", "reader@")))
        with pytest.raises(PermanentError, match="grant") as caught:
            await put(store, record("a", 1, 0))
        assert caught.value.error_class == "permission"

    async def test_a_restart_of_the_server_breaks_calls_only_while_it_lasts(
        self, server: PostgresServer, store: PgVector
    ) -> None:
        await put(store, record("a", 1, 0))
        await asyncio.to_thread(server.stop)
        try:
            with pytest.raises(TemporaryError) as caught:
                await find(store, 1, 0)
            assert caught.value.error_class == "connection"
        finally:
            await asyncio.to_thread(server.start)
        assert ids(await find(store, 1, 0)) == ["a"]

    @pytest.mark.parametrize(
        ("state", "error_class", "permanent"),
        [
            ("28P01", "authentication", True),
            ("28000", "authentication", True),
            ("42501", "permission", True),
            ("22021", "invalid_request", True),
            ("54000", "invalid_request", True),
            ("57014", "timeout", False),
            ("57P01", "connection", False),
            ("53300", "connection", False),
            ("53100", "server_error", False),
            ("40P01", "server_error", False),
            ("XX000", "server_error", False),
            ("", "server_error", False),
        ],
    )
    def test_a_state_says_whether_to_try_again(self, state: str, error_class: str, permanent: bool) -> None:
        error = of_server(RuntimeError("said"), state, "main")
        assert (error.error_class, isinstance(error, PermanentError)) == (error_class, permanent)


async def until(beside: asyncpg.Connection[asyncpg.Record], condition: str) -> None:
    """Return when the condition is true for the server."""
    await beside.execute(
        f"DO $$ BEGIN WHILE NOT ({condition}) LOOP "
        "PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$",
        timeout=5,
    )


WAITING = (
    "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'llm-orchestrator' "
    "AND wait_event_type = 'Lock')"
)


def statements(server: PostgresServer) -> int:
    """How many of a store's are at work."""
    [[count]] = server.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'llm-orchestrator' "
        "AND state = 'active'"
    )
    return int(count)


class TestDeadlines:
    @pytest.fixture
    async def blocked(
        self, store: PgVector, config: PgVectorConfig, beside: asyncpg.Connection[asyncpg.Record]
    ) -> AsyncIterator[None]:
        """Every search of the index waits for a lock."""
        await put(store, record("a", 1, 0))
        async with beside.transaction():
            await beside.execute(f"LOCK TABLE {config.schema_name}.records_1 IN ACCESS EXCLUSIVE MODE")
            yield

    @pytest.mark.usefixtures("blocked")
    async def test_a_statement_that_the_server_gives_up_is_a_timeout(self, opened: Opened) -> None:
        store = opened(statement_timeout_seconds=0.05)
        with pytest.raises(TemporaryError, match="statement timeout") as caught:
            await find(store, 1, 0)
        assert caught.value.error_class == "timeout"

    @pytest.mark.usefixtures("blocked")
    async def test_the_end_of_a_calls_time_ends_the_statement_at_the_server(
        self, server: PostgresServer, store: PgVector
    ) -> None:
        with pytest.raises(TemporaryError, match=r"within 0\.1 s") as caught:
            await find(store, 1, 0, context=replace(CALL, timeout_seconds=0.1))
        assert caught.value.error_class == "timeout"
        assert statements(server) == 0

    @pytest.mark.usefixtures("blocked")
    async def test_a_cancelled_call_ends_the_statement_at_the_server(
        self, server: PostgresServer, opened: Opened, beside: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        store = opened(pool_size=1)
        searching = asyncio.create_task(find(store, 1, 0))
        await until(beside, WAITING)
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        assert statements(server) == 0
        await store.check()

    @pytest.mark.usefixtures("blocked")
    async def test_waiting_for_a_connection_counts_too(
        self, opened: Opened, beside: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        store = opened(pool_size=1)
        searching = asyncio.create_task(find(store, 1, 0))
        await until(beside, WAITING)
        with pytest.raises(TemporaryError) as caught:
            await find(store, 1, 0, context=replace(CALL, timeout_seconds=0.05))
        assert caught.value.error_class == "timeout"
        searching.cancel()
        await asyncio.wait([searching])

    @pytest.mark.parametrize("write", [False, True])
    async def test_a_server_that_answers_nothing_keeps_nobody_waiting(
        self, server: PostgresServer, opened: Opened, write: bool
    ) -> None:
        store = opened(pool_size=1)
        await put(store, record("a", 1, 0))
        [[pid]] = server.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'llm-orchestrator'"
        )
        os.kill(pid, signal.SIGSTOP)
        try:
            context = replace(CALL, timeout_seconds=0.2)
            call: Awaitable[Any] = (
                store.upsert("notes", [record("b", 1, 0)], namespace=None, context=context)
                if write
                else find(store, 1, 0, context=context)
            )
            async with asyncio.timeout(10):
                with pytest.raises(TemporaryError) as caught:
                    await call
            assert caught.value.error_class == "timeout"
            assert ids(await find(store, 1, 0)) == ["a"]
        finally:
            os.kill(pid, signal.SIGCONT)

    async def test_no_more_connections_are_opened_than_the_pool_may_hold(
        self, server: PostgresServer, opened: Opened
    ) -> None:
        store = opened(pool_size=3)
        await put(store, record("a", 1, 0))
        await asyncio.gather(*(find(store, 1, 0) for _ in range(60)))
        [[count]] = server.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'llm-orchestrator'"
        )
        assert 1 <= count <= 3


class TestIndexes:
    async def test_texts_with_a_nul_are_refused_wherever_they_stand(self, store: PgVector) -> None:
        await put(store, record("a", 1, 0))
        for call in (
            put(store, record("b\0", 1, 0)),
            put(store, record("b", 1, 0, x="\0")),
            put(store, record("b", 1, 0, x=["fine", "\0"])),
            put(store, record("b", 1, 0, **{"x\0": 1})),
            put(store, record("b", 1, 0), index="\0"),
            put(store, record("b", 1, 0), namespace="\0"),
            find(store, 1, 0, filter={"x": "\0"}),
            find(store, 1, 0, filter={"x\0": 1}),
            find(store, 1, 0, filter={"x": {"$in": ["a", "\ud800"]}}),
            delete(store, ["\0"]),
        ):
            with pytest.raises(PermanentError, match=r"NUL|surrogate") as caught:
                await call
            assert caught.value.error_class == "invalid_request"
        assert ids(await find(store, 1, 0)) == ["a"]

    async def test_what_the_server_refuses_of_an_upsert_stores_nothing_not_even_the_index(
        self, opened: Opened
    ) -> None:
        store = opened(words_index=True)
        too_many_words = " ".join(f"word{n}" for n in range(150_000))
        with pytest.raises(PermanentError, match="tsvector") as caught:
            await put(store, record("a", 1, 0), record("b", 1, 0, text=too_many_words))
        assert caught.value.error_class == "invalid_request"
        with pytest.raises(PermanentError, match="no vector index 'notes'"):
            await store.describe("notes")

    async def test_first_upserts_of_several_processes_make_one_index_each(self, opened: Opened) -> None:
        stores = [opened() for _ in range(4)]
        await asyncio.gather(
            *(
                put(store, record(f"r{n}-{number}", 1, n), index=f"index-{n % 3}")
                for number, store in enumerate(stores)
                for n in range(9)
            )
        )
        counts = [(await stores[0].describe(f"index-{n}")).count for n in range(3)]
        assert counts == [12, 12, 12]

    async def test_upserts_of_the_same_records_in_other_orders_do_not_stop_each_other(
        self, store: PgVector
    ) -> None:
        records = [record(f"r{n}", 1, n) for n in range(200)]
        await put(store, *records)
        await asyncio.gather(*(put(store, *records[turn:], *records[:turn]) for turn in range(0, 200, 25)))
        assert (await store.describe("notes")).count == 200

    @pytest.mark.parametrize("name", ['Quote "x"; DROP TABLE', "größe/%s $1", "n" * 512, "records_1"])
    async def test_any_name_of_an_index_is_a_name(self, store: PgVector, name: str) -> None:
        await put(store, record(name, 1, 0), index=name, namespace=name)
        assert ids(await find(store, 1, 0, index=name, namespace=name)) == [name]
        assert (await store.describe(name)).name == name

    async def test_an_index_keeps_the_metric_it_was_made_with(self, opened: Opened) -> None:
        await put(opened(metric="euclidean"), record("far", 10, 0), record("near", 1, 1))
        store = opened(metric="cosine")
        hits = await find(store, 1, 0)
        assert [(hit.id, hit.score) for hit in hits] == [("near", -1.0), ("far", -9.0)]
        assert (await store.describe("notes")).metric == "euclidean"

    async def test_scores_of_dot_products_are_those(self, opened: Opened) -> None:
        store = opened(metric="dot")
        await put(store, record("long", 3, 4), record("short", 0.5, 0), record("zero", 0, 0))
        hits = await find(store, 2, 0)
        assert [(hit.id, hit.score) for hit in hits] == [("long", 6.0), ("short", 1.0), ("zero", 0.0)]

    async def test_an_index_that_was_dropped_elsewhere_is_not_found_then_made_anew(
        self, server: PostgresServer, config: PgVectorConfig, store: PgVector
    ) -> None:
        await put(store, record("a", 1, 0))
        server.execute(f"DROP SCHEMA {config.schema_name} CASCADE")
        for call in (find(store, 1, 0), find(store, 1, 0), delete(store, ["a"]), store.describe("notes")):
            with pytest.raises(PermanentError) as caught:
                await call
            assert caught.value.error_class == "not_found"
        await put(store, record("b", 1, 0, 0))
        assert ids(await find(store, 1, 0, 0)) == ["b"]

    async def test_an_index_that_was_made_anew_with_other_dimensions_is_noticed(
        self, server: PostgresServer, config: PgVectorConfig, opened: Opened
    ) -> None:
        first, second = opened(), opened()
        await put(first, record("a", 1, 0))
        server.execute(f"DROP SCHEMA {config.schema_name} CASCADE")
        await put(second, record("b", 1, 0, 0))
        assert ids(await find(first, 1, 0, 0)) == ["b"]
        with pytest.raises(PermanentError, match="'notes' has 3"):
            await put(first, record("a", 1, 0))

    async def test_vectors_as_long_as_the_database_takes_are_stored(self, store: PgVector) -> None:
        with pytest.raises(PermanentError, match="at most 16000"):
            await put(store, record("a", *[0.5] * 16_001))
        for dimensions in (1536, 16_000):
            await put(store, record("a", *[0.5] * dimensions), index=f"of-{dimensions}")
            [hit] = await find(store, *[1.0] * dimensions, index=f"of-{dimensions}")
            assert hit.score == pytest.approx(1.0)


class TestHnsw:
    @pytest.fixture
    def store(self, server: PostgresServer, opened: Opened) -> PgVector:
        """The server would rather read so few records through."""
        dsn = SecretStr(f"{server.url()}?enable_seqscan=off&enable_bitmapscan=off")
        return opened(dsn=dsn, index="hnsw", ef_search=40)

    async def test_vectors_longer_than_the_index_takes_are_refused(self, store: PgVector) -> None:
        with pytest.raises(PermanentError, match=r"at most 2000.*index none"):
            await put(store, record("a", *[1.0] * 2001))

    async def test_a_filter_costs_no_hits(
        self, server: PostgresServer, store: PgVector, beside: asyncpg.Connection[asyncpg.Record]
    ) -> None:
        numbers = random.Random(7)
        vectors = [[numbers.gauss(0, 1) for _ in range(96)] for _ in range(1500)]
        await put(
            store, *(record(f"r{n:04}", *it, rare=n % 97 == 0, part=n % 2) for n, it in enumerate(vectors))
        )
        await beside.execute("ANALYZE")
        query = vectors[700]
        assert len(await find(store, *query, top_k=30, filter={"rare": True})) == 16
        assert len(await find(store, *query, top_k=500, filter={"part": 1})) == 500
        assert len(await find(store, *query, top_k=5000)) == 1500
        assert ids(await find(store, *query, top_k=10))[0] == "r0700"
        await store.close()
        await until(
            beside,
            "EXISTS (SELECT FROM pg_stat_user_indexes WHERE idx_scan > 0 "
            "AND indexrelname LIKE '%embedding%')",
        )

    async def test_a_query_of_zeros_finds_everything(self, store: PgVector) -> None:
        await put(store, record("b", 1, 0), record("a", 0, 1))
        assert [(hit.id, hit.score) for hit in await find(store, 0, 0)] == [("a", 0.0), ("b", 0.0)]


class TestHybrid:
    @pytest.fixture
    async def store(self, opened: Opened) -> PgVector:
        store = opened()
        await put(
            store,
            record("vector", 1, 0, text="nothing of interest"),
            record("both", 1, 0.2, text="The error E-4711 in the press"),
            record("words", -0.5, 1, title="E-4711", tags=["Press", "error"]),
            record("little", -1, 0, number=4711, text=f"a press {'and more ' * 100}"),
        )
        return store

    async def test_an_alpha_out_of_range_is_refused(self, store: PgVector) -> None:
        with pytest.raises(PermanentError, match="alpha"):
            await find(store, 1, 0, hybrid=Hybrid(text="press", alpha=1.5))

    async def test_words_and_vector_count_as_alpha_says(self, store: PgVector) -> None:
        words = await find(store, 1, 0, hybrid=Hybrid(text="press error", alpha=0))
        assert ids(words) == ["words", "both", "little"]
        vector = await find(store, 1, 0, hybrid=Hybrid(text="press error", alpha=1))
        assert ids(vector) == ["vector", "both", "words", "little"]
        [best, *_] = await find(store, 1, 0, hybrid=Hybrid(text="press error", alpha=0.5))
        assert best.id == "both"
        assert 0 <= best.score <= 1
        assert best.metadata == {"text": "The error E-4711 in the press"}

    @pytest.mark.parametrize("text", ["!!!", "' | & ! ( ) <-> :*", "\\", "\0press"])
    async def test_nothing_in_a_text_is_an_operator(self, store: PgVector, text: str) -> None:
        assert len(await find(store, 1, 0, hybrid=Hybrid(text=text, alpha=0.5))) == 4

    async def test_a_filter_holds_for_both_rankings(self, store: PgVector) -> None:
        hits = await find(
            store, 1, 0, filter={"tags": "error"}, hybrid=Hybrid(text="press vector", alpha=0.5)
        )
        assert ids(hits) == ["words"]


FIELDS = ("a", "b", "it's", '"x" -> $1')
TEXTS = st.sampled_from(["", "a", "b", "B", "é", "😀", "\uffff", "1", "true", "null", "x'; --", "[]"])
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.1, 0.5, 1.0, -0.0, 1e300, 5e-324, 2**63 - 1, 1e16]),
)
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans())
METADATA = st.dictionaries(
    st.sampled_from(FIELDS), st.one_of(SCALARS, st.none(), st.lists(TEXTS, max_size=3)), max_size=4
)
TESTS = st.one_of(
    SCALARS,
    st.tuples(st.sampled_from(["$eq", "$ne"]), SCALARS).map(lambda it: {it[0]: it[1]}),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), TEXTS | NUMBERS).map(
        lambda it: {it[0]: it[1]}
    ),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(SCALARS, max_size=12)).map(
        lambda it: {it[0]: it[1]}
    ),
    st.booleans().map(lambda it: {"$exists": it}),
)
FILTERS: st.SearchStrategy[Mapping[str, Any]] = st.recursive(
    st.dictionaries(st.sampled_from(FIELDS), TESTS, min_size=1, max_size=2),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda it: {"$and": it}),
        st.lists(inner, min_size=1, max_size=3).map(lambda it: {"$or": it}),
        inner.map(lambda it: {"$not": it}),
    ),
    max_leaves=5,
)


@settings(max_examples=30, deadline=None)
@given(stored=st.lists(METADATA, min_size=1, max_size=12), filters=st.lists(FILTERS, min_size=1, max_size=8))
def test_a_filter_lets_through_what_the_language_says(
    server: PostgresServer, stored: list[dict[str, Any]], filters: list[Mapping[str, Any]]
) -> None:
    async def found() -> list[set[str]]:
        schema = f"test_{uuid.uuid4().hex}"
        store = PgVector(PgVectorConfig(name="main", dsn=SecretStr(server.url()), schema_name=schema))
        try:
            await put(store, *(record(str(n), 1, n, **metadata) for n, metadata in enumerate(stored)))
            hits = [await find(store, 1, 0, top_k=20, filter=asked) for asked in filters]
            assert all(hit.metadata == stored[int(hit.id)] for many in hits for hit in many)
            return [set(ids(many)) for many in hits]
        finally:
            await store.close()

    expected = [
        {str(n) for n, metadata in enumerate(stored) if matches(parse_filter(asked), metadata)}
        for asked in filters
    ]
    assert asyncio.run(found()) == expected
