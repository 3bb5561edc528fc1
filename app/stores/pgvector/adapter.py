"""PostgreSQL with the extension pgvector as a `VectorStore`.

The statements are in `sql` and `filter`, the connections in `pool`, what is known of indexes in `indexes`,
the searches in `search`, what goes over the wire in `format`. Retries, limits, metrics and the memory of
models are not here.

An operation is one transaction at most: all of an upsert is stored, its index included, or nothing.
Without an HNSW index searches are exact. With one they are near to it: should they find fewer records than
asked for, all are looked at, so that a filter never costs hits.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from pydantic import SecretStr

from app.ports.models import CallContext
from app.ports.vector_checks import (
    check_dimensions,
    check_index,
    check_namespace,
    check_query,
    check_records,
    check_selection,
    unknown_index,
)
from app.ports.vectors import Filter, IndexInfo, Metric, VectorHit, VectorQuery, VectorRecord
from app.stores.pgvector import format as fmt
from app.stores.pgvector.errors import TableGone
from app.stores.pgvector.filter import check_text
from app.stores.pgvector.indexes import Indexes
from app.stores.pgvector.pool import Address, Pool, transaction
from app.stores.pgvector.search import Searcher
from app.stores.pgvector.sql import Query, Sql

if TYPE_CHECKING:
    from app.stores.pgvector.pool import Connection

MILLISECONDS: Final = 1000
SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PgVectorConfig:
    """One database, named by the operator. `dsn`, if there is one, says where it is instead of the parts.

    `metric`, `index` and `words_index` are those of the indexes that are made from now on.
    """

    name: str
    dsn: SecretStr | None = None
    host: str = "localhost"
    port: int = 5432
    user: str = "postgres"
    password: SecretStr | None = None
    database: str = "postgres"
    ssl: SslMode = "prefer"
    schema_name: str = "orchestrator_vectors"
    metric: Metric = "cosine"
    index: Literal["none", "hnsw"] = "none"
    ef_search: int = 100
    words_index: bool = False
    pool_size: int = 10
    timeout_seconds: float = 30.0
    statement_timeout_seconds: float = 60.0


class PgVector:
    """Implements `app.ports.vectors.VectorStore`; `await close()` at the end.

    Scores are cosines, dot products or minus the Euclidean distance; of hybrid searches 0 to 1
    (`vector_fusion`). Vectors come back in float32. Dates and other texts are ordered by code point.
    """

    def __init__(self, config: PgVectorConfig) -> None:
        """Connects to nobody yet. Raises `ValueError` where the driver is not installed."""
        self._config = config
        self._hnsw = config.index == "hnsw"
        self._indexes = Indexes(metric=config.metric, hnsw=self._hnsw, words=config.words_index)
        self._pool = Pool(
            config.name,
            _address(config),
            size=config.pool_size,
            connect_seconds=config.timeout_seconds,
            session=_session(config),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close()

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """See the port. Words are those of PostgreSQL's text search configuration `simple`: letters and
        digits, in any case, of every text of the metadata."""
        _check_name(index)
        tree = check_query(query)
        wanted = Query(
            vector=query.vector,
            namespace=_place(query.namespace),
            tree=tree,
            limit=query.top_k,
            metadata=query.include_metadata,
            vectors=query.include_vectors,
        )
        async with self._using(index, context.timeout_seconds) as (connection, sql):
            found = await self._indexes.known(connection, sql, index, dimensions=len(query.vector))
            searcher = Searcher(connection, sql, found, hnsw=self._hnsw)
            if query.hybrid is None:
                return await searcher.nearest(wanted)
            return await searcher.best_of_both(wanted, query.hybrid)

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """See the port."""
        del model
        _check_name(index)
        place = _place(namespace)
        if not records:
            return 0
        dimensions = check_records(records)
        fmt.check_size(dimensions)
        if self._hnsw:
            fmt.check_indexable(records, self._config.metric)
        rows = fmt.rows(records, place)
        async with self._using(index, context.timeout_seconds) as (connection, sql):
            found = await self._indexes.find(connection, sql, index, dimensions=dimensions)
            async with transaction(connection):
                if found is None:
                    found = await self._indexes.create(connection, sql, index, dimensions)
                check_dimensions(index, has=found.dimensions, given=dimensions)
                await connection.executemany(sql.upsert(found), rows)
            self._indexes.keep(found)
        return len(rows)

    async def delete(
        self,
        index: str,
        *,
        ids: Sequence[str] | None,
        filter: Filter | None,
        delete_all: bool,
        namespace: str | None,
        context: CallContext,
    ) -> int:
        """See the port."""
        _check_name(index)
        tree = check_selection(ids=ids, filter=filter, delete_all=delete_all)
        place = _place(namespace)
        for record_id in ids or ():
            check_text(record_id, what="a record id")
        async with self._using(index, context.timeout_seconds) as (connection, sql):
            found = await self._indexes.known(connection, sql, index)
            statement = sql.delete(found, place, ids=ids, tree=tree)
            return fmt.deleted(await connection.execute(statement.text, *statement.values))

    async def describe(self, index: str) -> IndexInfo:
        """See the port. Counts the records of every namespace."""
        _check_name(index)
        self._indexes.forget(index)
        async with self._using(index, self._config.timeout_seconds) as (connection, sql):
            found = await self._indexes.known(connection, sql, index)
            count = await connection.fetchval(sql.count(found).text)
        return IndexInfo(name=index, dimensions=found.dimensions, metric=found.metric, count=count)

    async def check(self) -> None:
        """Raise if the database cannot serve."""
        async with self._pool.connection(self._config.timeout_seconds) as connection:
            await connection.execute("SELECT 1")

    @contextlib.asynccontextmanager
    async def _using(self, index: str, timeout_seconds: float) -> AsyncIterator[tuple[Connection, Sql]]:
        """A connection for one operation on an index."""
        try:
            async with self._pool.connection(timeout_seconds) as connection:
                yield connection, Sql(self._config.schema_name, self._pool.extension)
        except TableGone:
            self._indexes.forget(index)
            raise unknown_index(index, ()) from None


def _check_name(index: str) -> None:
    check_index(index)
    check_text(index, what="the index name")


def _place(namespace: str | None) -> str:
    return check_text(check_namespace(namespace), what="the namespace")


def _address(config: PgVectorConfig) -> Address:
    return Address(
        dsn=config.dsn,
        host=config.host,
        port=config.port,
        user=config.user,
        password=config.password,
        database=config.database,
        ssl=config.ssl,
    )


def _session(config: PgVectorConfig) -> dict[str, str]:
    """A plan made without the values of a filter would be one for no filter in particular; compiling a
    query costs more than it saves where it ends after some records."""
    return {
        "statement_timeout": str(int(config.statement_timeout_seconds * MILLISECONDS)),
        "plan_cache_mode": "force_custom_plan",
        "jit": "off",
        "hnsw.ef_search": str(config.ef_search),
        "hnsw.iterative_scan": "strict_order",
    }
