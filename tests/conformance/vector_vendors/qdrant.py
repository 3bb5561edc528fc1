"""Qdrant over the engine of the vendor's own client."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from app.ports.vectors import VectorStore
from app.providers.qdrant.adapter import Qdrant, QdrantConfig
from app.providers.transport import Transport
from tests.conformance.vector_vendors.entry import Entry
from tests.conformance.vector_vendors.qdrant_server import API_KEY, QdrantServer
from tests.providers.specs import load_spec


@contextlib.asynccontextmanager
async def _qdrant(folder: Path, address: str) -> AsyncIterator[VectorStore]:
    del folder, address  # it is held in memory
    server = QdrantServer(load_spec("qdrant-openapi.json"))
    transport = Transport.over_httpx(httpx.MockTransport(server.answer))
    try:
        yield Qdrant(QdrantConfig(name="qdrant-main", api_key=SecretStr(API_KEY)), transport)
    finally:
        await transport.aclose()
        server.close()


QDRANT: Final = Entry(
    open=_qdrant,
    missing=frozenset({"hybrid", "order of strings"}),
    weaker=frozenset({"ties", "vector lengths"}),
    says="Qdrant",
)
