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
from app.stores.pgvector import PgVector, PgVectorConfig
from tests.conformance.vector_vendors.entry import Entry, OpenStore
from tests.postgres_process import postgres_process


@contextlib.contextmanager
def pgvector_process() -> Iterator[str]:
    """The server, with the extension installed."""
    import asyncio

    async def install(dsn: str) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        finally:
            await connection.close()

    with postgres_process() as dsn:
        asyncio.run(install(dsn))
        yield dsn


def _opened(index: Literal["none", "hnsw"], *, words_index: bool) -> OpenStore:
    @contextlib.asynccontextmanager
    async def opened(folder: Path, address: str) -> AsyncIterator[VectorStore]:
        """In a schema of its own on the one server."""
        del folder
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
            connection = await asyncpg.connect(address)
            await connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
            await connection.close()

    return opened


EXACT: Final = Entry(open=_opened("none", words_index=False), start=pgvector_process)
HNSW: Final = Entry(open=_opened("hnsw", words_index=True), start=pgvector_process)
