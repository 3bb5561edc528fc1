"""Hybrid search of the embedded vector store: words beside vectors, and always in step with the records."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.ports.errors import PermanentError, TemporaryError
from app.ports.vectors import Hybrid, VectorHit, VectorQuery, VectorRecord
from app.stores.vector_engine import VectorEngine
from app.stores.vector_file import FIRST_VERSION, SCHEMA_VERSION, VectorFile
from app.stores.vector_fusion import fused
from app.stores.vector_words import MOST_WORDS, query_of
from app.stores.vectors import EmbeddedVectorStore
from tests.stores.test_vectors import call, find

WORDS = Hybrid(text="mirror", alpha=0.0)


def text(id: str, words: Any, *, vector: Sequence[float] = (1.0, 0.0), **more: Any) -> VectorRecord:
    return VectorRecord(id=id, vector=vector, metadata={"text": words, **more})


async def put(store: EmbeddedVectorStore, *records: VectorRecord, namespace: str | None = None) -> None:
    await store.upsert("kb", records, namespace=namespace, context=call())


async def ids(store: EmbeddedVectorStore, hybrid: Hybrid, **options: Any) -> list[str]:
    return [hit.id for hit in await find(store, [1.0, 0.0], hybrid=hybrid, **options)]


def schema_version(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return int(version)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedVectorStore]:
    opened = EmbeddedVectorStore(tmp_path / "vectors.db")
    await opened.open()
    yield opened
    await opened.close()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
async def test_a_weight_outside_its_range_is_refused(store: EmbeddedVectorStore, alpha: float) -> None:
    await put(store, text("a", "mirror"))
    with pytest.raises(PermanentError, match="alpha") as caught:
        await ids(store, Hybrid(text="mirror", alpha=alpha))
    assert caught.value.error_class == "invalid_request"


async def test_an_index_that_is_not_there_is_not_found(store: EmbeddedVectorStore) -> None:
    with pytest.raises(PermanentError) as caught:
        await ids(store, WORDS)
    assert caught.value.error_class == "not_found"


async def test_words_find_what_the_vector_does_not(store: EmbeddedVectorStore) -> None:
    far, near = (0.0, 1.0), (1.0, 0.0)
    await put(store, text("near", "the dome", vector=near), text("far", "part QX-200", vector=far))
    assert await ids(store, Hybrid(text="where is qx-200?", alpha=0.0)) == ["far"]
    assert await ids(store, Hybrid(text="where is qx-200?", alpha=1.0)) == ["near", "far"]
    assert await ids(store, Hybrid(text="where is qx-200?", alpha=0.3)) == ["far", "near"]


async def test_a_rarer_word_weighs_more_and_lists_of_texts_count(store: EmbeddedVectorStore) -> None:
    await put(
        store,
        text("a", ["the mirror", "is cold"]),
        text("b", "the mirror is mirror"),
        text("c", "the dome", note="humidity"),
        text("d", "the door", weight=5),
    )
    assert await ids(store, Hybrid(text="The MIRROR", alpha=0.0)) == ["b", "a", "d", "c"]
    assert await ids(store, Hybrid(text="humidity", alpha=0.0)) == ["c"]
    assert await ids(store, Hybrid(text="5", alpha=0.0)) == []


async def test_filters_and_namespaces_hold_for_words(store: EmbeddedVectorStore) -> None:
    await put(store, text("a", "mirror", lang="en"), text("b", "mirror", lang="de"))
    await put(store, text("c", "mirror"), namespace="other")
    assert await ids(store, WORDS, filter={"lang": "de"}) == ["b"]
    assert await ids(store, Hybrid(text="mirror"), filter={"lang": "de"}) == ["b"]
    assert await ids(store, WORDS, namespace="other") == ["c"]
    assert await ids(store, WORDS, namespace="nothing") == []


async def test_what_words_weigh_depends_on_no_other_namespace(store: EmbeddedVectorStore) -> None:
    both = Hybrid(text="mirror dome", alpha=0.0)
    for namespace in (None, "own"):
        await put(store, text("a", "mirror"), text("b", "dome dome"), text("c", "x"), namespace=namespace)
    before = await find(store, [1.0, 0.0], hybrid=both)
    await put(store, *[text(f"r{i}", "mirror") for i in range(50)], namespace="own")
    assert await find(store, [1.0, 0.0], hybrid=both, namespace="own") != before
    assert await find(store, [1.0, 0.0], hybrid=both) == before


async def test_a_text_without_words_leaves_it_to_the_vector(store: EmbeddedVectorStore) -> None:
    await put(store, text("a", "mirror"))
    assert await ids(store, Hybrid(text="?!", alpha=0.5)) == ["a"]
    assert await ids(store, Hybrid(text="?!", alpha=0.0)) == []


async def test_scores_are_those_of_the_formula(store: EmbeddedVectorStore) -> None:
    await put(
        store,
        text("a", "mirror", vector=(1.0, 0.0)),
        text("b", "dome", vector=(0.6, 0.8)),
        text("c", "dome", vector=(0.0, 1.0)),
    )
    hits = await find(store, [1.0, 0.0], hybrid=Hybrid(text="mirror", alpha=0.25))
    assert [hit.id for hit in hits] == ["a", "b", "c"]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 0.15, 0.0])


def test_one_candidate_alone_has_all_of_its_side_and_equal_ones_go_by_id() -> None:
    assert fused([(0.3, "b")], [(9.0, "a")], alpha=0.5, top_k=9) == [(0.5, "a"), (0.5, "b")]
    assert fused([], [], alpha=0.5, top_k=9) == []
    assert fused([(0.9, "a"), (0.1, "b")], [(5.0, "b"), (1.0, "a")], alpha=0.75, top_k=1) == [(0.75, "a")]


# --- the query ----------------------------------------------------------------------------------------


@given(st.text())
@example('" OR NOT NEAR(a b, 1) AND words:x* ^y {z} "" - +')
@example("AND")
@example("\x00\ud800")
@settings(max_examples=300)
def test_no_text_is_a_malformed_query(said: str) -> None:
    query = query_of(said)
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE t USING fts5(words)")
        if query is not None:
            connection.execute("SELECT * FROM t WHERE t MATCH ?", (query,)).fetchall()
    finally:
        connection.close()


def test_a_query_has_so_many_words_at_most_each_once() -> None:
    assert query_of("a A b") == '"A" OR "b"'
    assert str(query_of(" ".join(f"w{i}" for i in range(500)))).count(" OR ") == MOST_WORDS - 1


# --- the file -----------------------------------------------------------------------------------------


async def test_a_file_keeps_no_words_before_it_is_asked_for_some(tmp_path: Path) -> None:
    path = tmp_path / "vectors.db"
    store = EmbeddedVectorStore(path)
    await store.open()
    await put(store, text("a", "mirror"))
    await find(store, [1.0, 0.0])
    assert schema_version(path) == FIRST_VERSION
    assert await ids(store, Hybrid(text="mirror"), namespace="empty") == []
    assert schema_version(path) == FIRST_VERSION
    assert await ids(store, WORDS) == ["a"]
    await store.close()
    assert schema_version(path) == SCHEMA_VERSION
    again = EmbeddedVectorStore(path)
    await again.open()
    await put(again, text("b", "mirror"))
    assert await ids(again, WORDS) == ["a", "b"]
    await again.close()


async def test_a_write_by_another_process_keeps_the_words_in_step(
    store: EmbeddedVectorStore, tmp_path: Path
) -> None:
    await put(store, text("a", "mirror"))
    other = EmbeddedVectorStore(tmp_path / "vectors.db")
    await other.open()
    assert await ids(other, WORDS) == ["a"]
    await put(store, text("a", "dome"), text("b", "mirror"))
    assert await ids(other, WORDS) == ["b"]
    await other.close()


async def test_a_write_that_fails_changes_no_words(store: EmbeddedVectorStore) -> None:
    await put(store, text("a", "mirror"))
    assert await ids(store, WORDS) == ["a"]
    assert store._file is not None
    connection = store._file._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    with pytest.raises(TemporaryError, match="SQLITE_FULL"):
        await put(store, text("a", "dome"), *[text(f"r{i}", f"mirror {i} " * 50) for i in range(500)])
    assert await ids(store, WORDS) == ["a"]


names = st.sampled_from("abcdef")
places = st.sampled_from(["", "blue"])
texts = st.lists(st.sampled_from(["mirror", "dome", "door", "cold"]), max_size=4).map(" ".join)


class AgainstAFreshFile(RuleBasedStateMachine):
    """Whatever is written in whatever order, words are what they are in a file that is filled at once."""

    def __init__(self) -> None:
        super().__init__()
        self.file = VectorFile(Path(":memory:"))
        self.engine = VectorEngine(self.file, cache_bytes=2**20)
        self.model: dict[str, dict[str, str]] = {"": {}, "blue": {}}
        self.begun = False

    def teardown(self) -> None:
        self.file.close()

    @rule(place=places, batch=st.dictionaries(names, texts, min_size=1))
    def upsert(self, place: str, batch: dict[str, str]) -> None:
        self.engine.upsert("kb", [text(key, words) for key, words in batch.items()], namespace=place)
        self.model[place] |= batch
        self.begun = True

    @precondition(lambda self: self.begun)
    @rule(place=places, going=st.lists(names))
    def delete(self, place: str, going: list[str]) -> None:
        self.engine.delete("kb", ids=going, filter=None, delete_all=False, namespace=place)
        for key in going:
            self.model[place].pop(key, None)

    @precondition(lambda self: self.begun)
    @rule(place=places, words=texts)
    def delete_by_text(self, place: str, words: str) -> None:
        self.engine.delete("kb", ids=None, filter={"text": words}, delete_all=False, namespace=place)
        kept = {key: value for key, value in self.model[place].items() if value != words}
        self.model[place] = kept

    @precondition(lambda self: self.begun)
    @rule(place=places)
    def clear(self, place: str) -> None:
        self.engine.delete("kb", ids=None, filter=None, delete_all=True, namespace=place)
        self.model[place] = {}

    @precondition(lambda self: self.begun)
    @rule(place=places)
    def agrees(self, place: str) -> None:
        file = VectorFile(Path(":memory:"))
        fresh = VectorEngine(file, cache_bytes=2**20)
        fresh.upsert("kb", [text("z", "other")], namespace="elsewhere")
        fresh.upsert("kb", [text(key, words) for key, words in self.model[place].items()], namespace=place)
        for said in ("mirror", "dome cold"):
            found = [_search(engine, place, said) for engine in (self.engine, fresh)]
            assert [hit.id for hit in found[0]] == [hit.id for hit in found[1]]
            assert [hit.score for hit in found[0]] == pytest.approx([hit.score for hit in found[1]])
        file.close()

    @invariant()
    def holds_no_strays(self) -> None:
        if self.file.find_index("kb") is None:
            return
        for place in self.model:
            found = _search(self.engine, place, "mirror dome door cold")
            assert {hit.id for hit in found} == {key for key, words in self.model[place].items() if words}


def _search(engine: VectorEngine, place: str, said: str) -> list[VectorHit]:
    hybrid = Hybrid(text=said, alpha=0.0)
    query = VectorQuery(vector=[1.0, 0.0], top_k=20, namespace=place, include_metadata=False, hybrid=hybrid)
    return engine.search("kb", query)


AgainstAFreshFile.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestAgainstAFreshFile = AgainstAFreshFile.TestCase
