"""The embedded store, with its cache and without, and with contracts around it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from app.ports.vectors import VectorStore
from app.providers.contracted import ContractedVectors
from app.stores.memory import MemoryStore
from app.stores.vectors import DEFAULT_CACHE_BYTES, EmbeddedVectorStore
from tests.conformance.vector_vendors.entry import Entry, OpenStore


def _embedded(cache_bytes: int) -> OpenStore:
    @contextlib.asynccontextmanager
    async def opened(folder: Path, address: str) -> AsyncIterator[VectorStore]:
        del address  # it starts nothing
        store = EmbeddedVectorStore(folder / "vectors.db", cache_bytes=cache_bytes)
        await store.open()
        try:
            yield store
        finally:
            await store.close()

    return opened


@contextlib.asynccontextmanager
async def _contracted(folder: Path, address: str) -> AsyncIterator[VectorStore]:
    contracts = MemoryStore()
    await contracts.open()
    async with CACHED.open(folder, address) as store:
        yield ContractedVectors(store, "embedded", contracts.index_contracts)


CACHED: Final = Entry(open=_embedded(DEFAULT_CACHE_BYTES))
UNCACHED: Final = Entry(open=_embedded(0))
"""Nothing fits its cache: every search reads the file through."""
CONTRACTED: Final = Entry(open=_contracted)
"""As a service has it, with what keeps an index to one model around it."""
