"""One vector database with records of one size, a process of its own: `python -m tests.bench.vector_search`.

Prints JSON: seconds to load, milliseconds of searches with and without a filter that lets a tenth through,
recall@10 against brute force in float64, memory. The vectors are drawn from 256 clusters, block by block
and always the same ones; what is right is found while they are loaded. Memory is that of this process: the
client's, and the embedded store's, but no database server's.
"""

from __future__ import annotations

import argparse
import heapq
import json
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import psutil
import uvloop
from pydantic import SecretStr

from app.ports.models import CallContext
from app.ports.vectors import Filter, VectorQuery, VectorRecord, VectorStore
from app.stores.pgvector.adapter import PgVector, PgVectorConfig
from app.stores.vectors import EmbeddedVectorStore
from tests.postgresql_server import find_programs, postgres_server

Rows = npt.NDArray[np.float32]
BLOCK: Final = 1000
CLUSTERS: Final = 256
TOP_K: Final = 10
CHECKED: Final = 100
"""Queries whose hits are compared with those of brute force."""
PARTS: Final = 10
ONE_PART: Final[Filter] = {"part": 3}
CALL: Final = CallContext(
    run_id="bench", path="search", attempt=1, idempotency_key="bench", timeout_seconds=600.0
)
CACHE_BYTES: Final = 4 * 1024**3
"""The cache of the embedded store holds the largest index."""


class Data:
    """Vectors of one length, by block."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._centres = self._drawn(0, CLUSTERS)

    def block(self, number: int) -> Rows:
        """`BLOCK` vectors."""
        return self._around(number + 1, BLOCK)

    def queries(self, count: int) -> Rows:
        """Vectors of the same clusters that are in no block."""
        return self._around(2**31, count)

    def _around(self, seed: int, count: int) -> Rows:
        chosen = np.random.default_rng([seed, 1]).integers(0, CLUSTERS, count)
        rows: Rows = self._centres[chosen] + self._drawn(seed, count)
        return rows

    def _drawn(self, seed: int, count: int) -> Rows:
        return np.random.default_rng([seed, 0]).standard_normal((count, self._dimensions), dtype=np.float32)


class Truth:
    """The ids that brute force finds for the first queries."""

    def __init__(self, queries: Rows) -> None:
        wide = queries[:CHECKED].astype(np.float64)
        self._queries = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        self._best: list[list[tuple[float, str]]] = [[] for _ in self._queries]

    def add(self, ids: Sequence[str], rows: Rows) -> None:
        """Records, in any order."""
        wide = rows.astype(np.float64)
        scores = self._queries @ (wide / np.linalg.norm(wide, axis=1, keepdims=True)).T
        for number, near in enumerate(scores):
            places = np.argpartition(-near, min(TOP_K, len(near) - 1))[:TOP_K]
            found = [(float(near[place]), ids[place]) for place in places]
            self._best[number] = heapq.nlargest(TOP_K, self._best[number] + found)

    def recall(self, found: Sequence[Sequence[str]]) -> float:
        """The share of the right ids among those found."""
        right = [
            len(set(ids) & {key for _, key in best}) / len(best)
            for ids, best in zip(found, self._best, strict=False)
        ]
        return float(np.mean(right))


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[VectorStore]:
    """The embedded store."""
    store = EmbeddedVectorStore(folder / "vectors.db", cache_bytes=CACHE_BYTES)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def _postgresql(**options: Any) -> Callable[[Path], AbstractAsyncContextManager[VectorStore]]:
    @asynccontextmanager
    async def opened(folder: Path) -> AsyncIterator[VectorStore]:
        del folder
        with postgres_server() as server:
            server.execute("CREATE EXTENSION vector")
            store = PgVector(
                PgVectorConfig(
                    name="bench", dsn=SecretStr(server.url()), statement_timeout_seconds=3600, **options
                )
            )
            try:
                yield store
            finally:
                await store.close()

    return opened


STORES: Final[Mapping[str, Callable[[Path], AbstractAsyncContextManager[VectorStore]]]] = {
    "embedded": embedded,
    "pgvector": _postgresql(),
    "pgvector-hnsw": _postgresql(index="hnsw"),
}


async def load(store: VectorStore, data: Data, count: int, truths: Mapping[int | None, Truth]) -> float:
    """Fill the index; the seconds that the upserts took. `truths` are by part, None for all of them."""
    seconds = 0.0
    for number in range(-(-count // BLOCK)):
        rows = data.block(number)[: count - number * BLOCK]
        ids = [f"r{number * BLOCK + place:07}" for place in range(len(rows))]
        records = [
            VectorRecord(id=key, vector=row, metadata={"part": place % PARTS, "text": f"Passage {key}"})
            for place, (key, row) in enumerate(zip(ids, rows.tolist(), strict=True))
        ]
        start = time.perf_counter()
        await store.upsert("bench", records, namespace=None, context=CALL)
        seconds += time.perf_counter() - start
        for part, truth in truths.items():
            mine = slice(None) if part is None else slice(part, None, PARTS)
            truth.add(ids[mine], rows[mine])
    return seconds


async def search(store: VectorStore, queries: Rows, filter: Filter | None, truth: Truth) -> dict[str, float]:
    """One search after the other. The first one, which may load what the others use, is told apart."""
    took, found = [], []
    for query in [queries[0], *queries]:
        asked = VectorQuery(vector=query.tolist(), top_k=TOP_K, filter=filter)
        start = time.perf_counter()
        hits = await store.search("bench", asked, context=CALL)
        took.append((time.perf_counter() - start) * 1000)
        found.append([hit.id for hit in hits])
    first, *rest = took
    return {
        "first_ms": first,
        **{f"p{share:g}_ms": float(np.percentile(rest, share)) for share in (50, 99, 99.9)},
        "recall": truth.recall(found[1:]),
    }


async def bench(args: argparse.Namespace) -> dict[str, Any]:
    """Load, search without and with a filter."""
    data = Data(args.dimensions)
    queries = data.queries(args.searches)
    everything, one_part = Truth(queries), Truth(queries)
    process = psutil.Process()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with STORES[args.store](Path(folder)) as store:
            before = process.memory_info().rss
            seconds = await load(store, data, args.count, {None: everything, ONE_PART["part"]: one_part})
            plain = await search(store, queries, None, everything)
            filtered = await search(store, queries, ONE_PART, one_part)
            rss = process.memory_info().rss
    return {
        "skipped": None,
        "load_seconds": seconds,
        "plain": plain,
        "filtered": filtered,
        "rss_mib": rss / 2**20,
        "added_rss_mib": (rss - before) / 2**20,
    }


def missing(store: str) -> str | None:
    """Why a database cannot be measured."""
    if store != "embedded" and find_programs() is None:
        return "no PostgreSQL server is installed"
    return None


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("store", choices=STORES)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--dimensions", type=int, required=True)
    parser.add_argument("--searches", type=int, default=1000)
    args = parser.parse_args()
    why = missing(args.store)
    result = {"skipped": why} if why else uvloop.run(bench(args))
    print(json.dumps(result))  # noqa: T201  the answer to the parent process


if __name__ == "__main__":
    main()
