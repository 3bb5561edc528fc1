"""Searches of one index in PostgreSQL: by vector, and by vector and words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from app.ports.vectors import Hybrid, VectorHit
from app.stores.pgvector.format import SCORES, hit, words_query
from app.stores.pgvector.pool import transaction
from app.stores.pgvector.sql import IndexRow, Query, Sql, Statement
from app.stores.vector_fusion import Ranking, candidates_for, fused

if TYPE_CHECKING:
    from app.stores.pgvector.pool import Connection


class Searcher:
    """Searches with one connection. Methods raise what the driver raises."""

    def __init__(self, connection: Connection, sql: Sql, index: IndexRow, *, hnsw: bool) -> None:
        """`hnsw` says whether an HNSW index may be there."""
        self._connection = connection
        self._sql = sql
        self._index = index
        self._hnsw = hnsw

    async def nearest(self, query: Query) -> list[VectorHit]:
        """By vector: best first, equal ones by id."""
        score = SCORES[self._index.metric]
        hits = [
            hit(row["id"], score(row["distance"]), row, metadata=query.metadata, vectors=query.vectors)
            for row in await self._nearest(query)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.id))

    async def best_of_both(self, query: Query, hybrid: Hybrid) -> list[VectorHit]:
        """By vector and words, of one state of the records."""
        many = replace(query, limit=candidates_for(query.limit), metadata=False, vectors=False)
        async with transaction(self._connection, isolation="repeatable_read", readonly=True):
            by_vector = [(found.score, found.id) for found in await self.nearest(many)]
            by_words = await self._by_words(many, hybrid.text)
            ranked = fused(by_vector, by_words, alpha=hybrid.alpha, top_k=query.limit)
            rows = {row["id"]: row for row in await self._fetch(self._sql.by_id(self._index, query, ranked))}
        return [
            hit(key, score, rows[key], metadata=query.metadata, vectors=query.vectors)
            for score, key in ranked
        ]

    async def _nearest(self, query: Query) -> Sequence[Any]:
        """Rows. A query of zeros has no direction for an index to go into."""
        if self._hnsw and any(query.vector):
            rows = await self._fetch(self._sql.nearest(self._index, query, exact=False))
            if len(rows) == query.limit:
                return rows
        return await self._fetch(self._sql.nearest(self._index, query, exact=True))

    async def _by_words(self, query: Query, text: str) -> Ranking:
        words = words_query(text)
        if words is None:
            return []
        rows = await self._fetch(self._sql.best_by_words(self._index, query, words))
        return [(row["score"], row["id"]) for row in rows]

    async def _fetch(self, statement: Statement) -> Sequence[Any]:
        return await self._connection.fetch(statement.text, *statement.values)
