"""Chroma: over a fake of ours, and over the real server where it is installed."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from app.ports.vectors import VectorStore
from app.providers.chroma.adapter import Chroma, ChromaConfig
from app.providers.transport import Transport
from tests.conformance.vector_vendors.chroma_process import chroma_process
from tests.conformance.vector_vendors.chroma_server import API_KEY, ChromaServer
from tests.conformance.vector_vendors.entry import Entry, Missing, Weaker

MISSING: Final[frozenset[Missing]] = frozenset({"$exists", "negated order", "order of strings", "hybrid"})
WEAKER: Final[frozenset[Weaker]] = frozenset({"ties"})


@contextlib.asynccontextmanager
async def _fake(folder: Path, address: str) -> AsyncIterator[VectorStore]:
    del folder, address  # it is held in memory
    transport = Transport.over_httpx(httpx.MockTransport(ChromaServer().answer))
    try:
        yield Chroma(ChromaConfig(name="chroma-main", api_key=SecretStr(API_KEY)), transport)
    finally:
        await transport.aclose()


@contextlib.asynccontextmanager
async def _real(folder: Path, address: str) -> AsyncIterator[VectorStore]:
    """A database of its own on the one server."""
    del folder
    database = f"test-{uuid.uuid4()}"
    async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
        made = await client.post("/api/v2/tenants/default_tenant/databases", json={"name": database})
        made.raise_for_status()
    transport = Transport.over_sockets()
    try:
        yield Chroma(ChromaConfig(name="chroma-real", base_url=address, database=database), transport)
    finally:
        await transport.aclose()


CHROMA: Final = Entry(open=_fake, missing=MISSING, weaker=WEAKER, says="Chroma")
CHROMA_SERVER: Final = Entry(open=_real, start=chroma_process, missing=MISSING, weaker=WEAKER, says="Chroma")
