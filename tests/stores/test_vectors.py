"""The embedded vector store beyond the contract: its file, its memory, its thread."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext
from app.ports.vectors import VectorHit, VectorQuery, VectorRecord
from app.stores.vector_blocks import BLOCK_ROWS
from app.stores.vector_engine import VectorEngine
from app.stores.vector_file import VectorFile
from app.stores.vector_matrix import ResidentVectors
from app.stores.vectors import EmbeddedVectorStore

ROOT = Path(__file__).parents[2]


def call(timeout_seconds: float = 30.0) -> CallContext:
    return CallContext(
        run_id="run", path="step", attempt=1, idempotency_key="key", timeout_seconds=timeout_seconds
    )


def records(count: int, *, dimensions: int = 8, seed: int = 1) -> list[VectorRecord]:
    rows = np.random.default_rng(seed).standard_normal((count, dimensions))
    return [VectorRecord(id=f"r{i:05}", vector=row.tolist(), metadata={"n": i}) for i, row in enumerate(rows)]


async def find(store: EmbeddedVectorStore, vector: list[float], **options: Any) -> list[VectorHit]:
    query = VectorQuery(vector=vector, include_metadata=False, **({"top_k": 5} | options))
    return list(await store.search("kb", query, context=call()))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedVectorStore]:
    opened = EmbeddedVectorStore(tmp_path / "vectors.db")
    await opened.open()
    yield opened
    await opened.close()


class TestOpening:
    async def test_a_file_of_a_newer_release_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "vectors.db"
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        with pytest.raises(PermanentError, match="schema 99") as caught:
            await EmbeddedVectorStore(path).open()
        assert caught.value.error_class == "invalid_config"

    async def test_a_file_that_is_no_database_is_refused_without_its_path(self, tmp_path: Path) -> None:
        path = tmp_path / "vectors.db"
        path.write_bytes(b"not a database" * 100)
        with pytest.raises(PermanentError, match="damaged") as caught:
            await EmbeddedVectorStore(path).open()
        assert str(tmp_path) not in str(caught.value)
        assert path.read_bytes().startswith(b"not a database")

    async def test_a_store_that_is_not_open_says_so(self, tmp_path: Path) -> None:
        store = EmbeddedVectorStore(tmp_path / "vectors.db")
        await store.close()
        with pytest.raises(TemporaryError, match="not open"):
            await store.check()
        await store.open()
        await store.check()
        await store.close()
        with pytest.raises(TemporaryError, match="not open"):
            await find(store, [1.0])

    async def test_only_its_owner_may_read_the_file(self, tmp_path: Path) -> None:
        store = EmbeddedVectorStore(tmp_path / "data" / "vectors.db")
        before = os.umask(0)
        try:
            await store.open()
            await store.upsert("kb", records(2), namespace=None, context=call())
        finally:
            os.umask(before)
        modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "data").iterdir()}
        await store.close()
        assert modes
        assert set(modes.values()) == {0o600}

    def test_opening_does_not_import_numpy(self, tmp_path: Path) -> None:
        program = (
            "import asyncio, pathlib, sys\n"
            "from app.stores.vectors import EmbeddedVectorStore\n"
            "async def main():\n"
            f"    store = EmbeddedVectorStore(pathlib.Path({str(tmp_path / 'v.db')!r}))\n"
            "    await store.open(); await store.check(); await store.close()\n"
            "asyncio.run(main())\n"
            "sys.exit('numpy' in sys.modules)\n"
        )
        assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


class TestFile:
    async def test_what_was_written_is_there_after_reopening(self, tmp_path: Path) -> None:
        everything = records(50)
        first = EmbeddedVectorStore(tmp_path / "vectors.db")
        await first.open()
        await first.upsert("kb", everything, namespace=None, context=call())
        before = await find(first, list(everything[7].vector))
        await first.close()
        second = EmbeddedVectorStore(tmp_path / "vectors.db")
        await second.open()
        assert await find(second, list(everything[7].vector)) == before
        assert before[0].id == "r00007"
        await second.close()

    async def test_a_write_by_another_process_is_seen_by_the_next_search(
        self, store: EmbeddedVectorStore, tmp_path: Path
    ) -> None:
        other = EmbeddedVectorStore(tmp_path / "vectors.db")
        await other.open()
        await store.upsert("kb", [VectorRecord(id="a", vector=[1, 0])], namespace=None, context=call())
        assert [hit.id for hit in await find(store, [0, 1])] == ["a"]
        await other.upsert("kb", [VectorRecord(id="b", vector=[0, 1])], namespace=None, context=call())
        assert [hit.id for hit in await find(store, [0, 1])] == ["b", "a"]
        await other.close()

    async def test_a_full_disk_fails_the_write_whole_and_reads_go_on(
        self, store: EmbeddedVectorStore
    ) -> None:
        await store.upsert("kb", records(10), namespace=None, context=call())
        before = await find(store, [1.0] * 8)
        assert store._file is not None
        connection = store._file._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(TemporaryError, match="SQLITE_FULL") as caught:
            await store.upsert("kb", records(5000, seed=2), namespace=None, context=call())
        assert caught.value.error_class == "server_error"
        assert await find(store, [1.0] * 8) == before
        connection.execute("PRAGMA max_page_count = 1000000")
        assert await store.upsert("kb", records(5000, seed=2), namespace=None, context=call()) == 5000

    async def test_a_killed_writer_loses_nothing_acknowledged_and_keeps_batches_whole(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / "vectors.db"
        program = (
            "import asyncio, pathlib, sys\n"
            "from app.ports.models import CallContext\n"
            "from app.ports.vectors import VectorRecord\n"
            "from app.stores.vectors import EmbeddedVectorStore\n"
            "call = CallContext(run_id='r', path='p', attempt=1, idempotency_key='k', timeout_seconds=30)\n"
            "async def main():\n"
            "    store = EmbeddedVectorStore(pathlib.Path(sys.argv[1]))\n"
            "    await store.open()\n"
            "    for batch in range(100000):\n"
            "        rows = [VectorRecord(id=f'{batch}-{i}', vector=[batch, i]) for i in range(20)]\n"
            "        await store.upsert('kb', rows, namespace=sys.argv[2], context=call)\n"
            "        print(batch, flush=True)\n"
            "asyncio.run(main())\n"
        )
        for turn in range(3):
            acknowledged = _run_until_killed(program, path, namespace=f"turn{turn}", batches=5 + 7 * turn)
            with sqlite3.connect(path) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                sizes = dict(
                    connection.execute(
                        "SELECT substr(id, 1, instr(id, '-') - 1), count(*) FROM vector_record "
                        "WHERE namespace = ? GROUP BY 1",
                        (f"turn{turn}",),
                    )
                )
            connection.close()
            assert set(sizes.values()) == {20}
            assert {str(batch) for batch in acknowledged} <= sizes.keys()


def _run_until_killed(program: str, path: Path, *, namespace: str, batches: int) -> list[int]:
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path), namespace], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(batches)]
        os.kill(process.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    return acknowledged


class TestThread:
    async def test_a_call_past_its_deadline_is_a_timeout_and_the_store_goes_on(
        self, store: EmbeddedVectorStore
    ) -> None:
        with pytest.raises(TemporaryError) as caught:
            await store.upsert("kb", records(2000), namespace=None, context=call(timeout_seconds=0.001))
        assert caught.value.error_class == "timeout"
        await store.upsert("kb", records(3), namespace="other", context=call())
        assert len(await find(store, [1.0] * 8, namespace="other")) == 3

    async def test_the_event_loop_runs_on_while_vectors_are_written(self, store: EmbeddedVectorStore) -> None:
        await store.upsert("kb", records(1), namespace=None, context=call())
        turns = 0
        writing = asyncio.ensure_future(
            store.upsert("kb", records(20_000), namespace=None, context=call(timeout_seconds=60))
        )
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        assert await writing == 20_000
        assert turns > 50


class TestMemory:
    def test_the_cache_stays_within_its_bytes(self, tmp_path: Path) -> None:
        file = VectorFile(tmp_path / "vectors.db")
        engine = VectorEngine(file, cache_bytes=300_000)
        for name in "abcdefgh":
            engine.upsert("kb", records(500, dimensions=32), namespace=name)
        for name in "abcdefghaabbcc":
            for condition in (None, {"n": {"$lt": 10}}):
                query = VectorQuery(
                    vector=[1.0] * 32, top_k=3, filter=condition, namespace=name, include_metadata=False
                )
                hits = engine.search("kb", query)
                assert len(hits) == 3
                assert engine.resident_bytes <= 300_000
        assert engine.resident_bytes > 100_000
        file.close()

    def test_a_namespace_larger_than_the_cache_is_searched_just_the_same(self, tmp_path: Path) -> None:
        file = VectorFile(tmp_path / "vectors.db")
        roomy = VectorEngine(file, cache_bytes=2**30)
        tight = VectorEngine(file, cache_bytes=10_000)
        roomy.upsert("kb", records(BLOCK_ROWS + 500), namespace="")
        for condition in (None, {"n": {"$gte": BLOCK_ROWS - 5}}, {"n": {"$lt": 0}}):
            query = VectorQuery(vector=[1.0] * 8, top_k=12, filter=condition)
            assert tight.search("kb", query) == roomy.search("kb", query)
        assert tight.resident_bytes == 0
        file.close()

    def test_rows_beyond_one_block_are_found_and_removed(self) -> None:
        vectors = ResidentVectors(2)
        count = 2 * BLOCK_ROWS + 10
        rows = np.tile(np.array([[0, 1]], dtype=np.float32), (count, 1))
        rows[BLOCK_ROWS + 3] = [1, 0]
        vectors.put([f"r{i:06}" for i in range(count)], rows)
        query = np.array([1, 0], dtype=np.float32)
        assert vectors.nearest(query, 2, None) == [(1.0, f"r{BLOCK_ROWS + 3:06}"), (0.0, "r000000")]
        vectors.remove([f"r{BLOCK_ROWS + 3:06}", "r000000"])
        assert vectors.nearest(query, 1, None) == [(0.0, "r000001")]
        assert len(vectors) == count - 2


names = st.sampled_from("abcdefgh")
places = st.sampled_from(["", "blue"])
numbers = st.integers(-2, 2)
colours = st.sampled_from(["red", "green", None])


class AgainstADictionary(RuleBasedStateMachine):
    """Whatever is written in whatever order, a warm cache, a cold one and a dictionary agree."""

    def __init__(self) -> None:
        super().__init__()
        self.file = VectorFile(Path(":memory:"))
        self.engine = VectorEngine(self.file, cache_bytes=2**20)
        self.model: dict[tuple[str, str], tuple[tuple[int, int], str | None]] = {}

    def teardown(self) -> None:
        self.file.close()

    @rule(place=places, batch=st.dictionaries(names, st.tuples(st.tuples(numbers, numbers), colours)))
    def upsert(self, place: str, batch: dict[str, tuple[tuple[int, int], str | None]]) -> None:
        rows = [
            VectorRecord(id=key, vector=vector, metadata={"colour": colour})
            for key, (vector, colour) in batch.items()
        ]
        assert self.engine.upsert("kb", rows, namespace=place) == len(batch)
        self.model |= {(place, key): value for key, value in batch.items()}

    @precondition(lambda self: self.model)
    @rule(place=places, ids=st.lists(names))
    def delete_ids(self, place: str, ids: list[str]) -> None:
        going = {(place, key) for key in ids} & self.model.keys()
        assert self._delete(place, ids=ids) == len(going)
        for key in going:
            del self.model[key]

    @precondition(lambda self: self.model)
    @rule(place=places, colour=st.sampled_from(["red", "green"]))
    def delete_colour(self, place: str, colour: str) -> None:
        going = {key for key, value in self.model.items() if key[0] == place and value[1] == colour}
        assert self._delete(place, filter={"colour": colour}) == len(going)
        for key in going:
            del self.model[key]

    def _delete(self, place: str, **what: Any) -> int:
        return self.engine.delete(
            "kb", **({"ids": None, "filter": None, "delete_all": False} | what), namespace=place
        )

    @invariant()
    def agrees(self) -> None:
        if not self.model:
            return
        cold = VectorEngine(self.file, cache_bytes=2**20)
        for place in ("", "blue"):
            for colour in (None, "red"):
                found = [self._search(engine, place, colour) for engine in (self.engine, cold)]
                expected = {
                    key[1]
                    for key, value in self.model.items()
                    if key[0] == place and colour in (None, value[1])
                }
                assert found[0] == found[1]
                assert {hit.id for hit in found[0]} == expected

    def _search(self, engine: VectorEngine, place: str, colour: str | None) -> list[VectorHit]:
        passing = None if colour is None else {"colour": colour}
        query = VectorQuery(
            vector=[1.0, 0.5], top_k=20, filter=passing, namespace=place, include_vectors=True
        )
        return engine.search("kb", query)


AgainstADictionary.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestAgainstADictionary = AgainstADictionary.TestCase
