"""PostgreSQL with pgvector: a real server, searched exactly and by an HNSW index."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, Literal

import asyncpg
from pydantic import SecretStr

from app.ports.vectors import VectorStore
from app.stores.pgvector.adapter import PgVector, PgVectorConfig
from tests.conformance.vector_vendors.entry import Entry, OpenStore
from tests.postgresql_server import postgres_server


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.contextmanager
def _process() -> Iterator[str]:
    with postgres_server() as server:
        yield server.url()


def _opened(index: Literal["none", "hnsw"], *, words_index: bool) -> OpenStore:
    @contextlib.asynccontextmanager
    async def opened(folder: Path, address: str) -> AsyncIterator[VectorStore]:
        """In a schema of its own on the one server."""
        del folder
        async with _connected(address) as connection:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        schema = f"test_{uuid.uuid4().hex}"
        config = PgVectorConfig(
            name="postgres",
            dsn=SecretStr(address),
            schema_name=schema,
            index=index,
            words_index=words_index,
            pool_size=4,
        )
        store = PgVector(config)
        try:
            yield store
        finally:
            await store.close()
            async with _connected(address) as connection:
                await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")

    return opened


EXACT: Final = Entry(open=_opened("none", words_index=False), start=_process)
HNSW: Final = Entry(
    open=_opened("hnsw", words_index=True),
    start=_process,
    missing=frozenset({"vectors of zeros"}),
    weaker=frozenset({"ties"}),
    says="HNSW",
)
