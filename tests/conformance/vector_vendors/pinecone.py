"""Pinecone over a server of ours, whose traffic is checked against the vendor's documents."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from app.ports.vectors import VectorStore
from app.providers.pinecone.adapter import Pinecone, PineconeConfig
from app.providers.transport import Transport
from tests.conformance.vector_vendors.entry import Entry
from tests.conformance.vector_vendors.pinecone_server import API_KEY, PineconeServer
from tests.providers.specs import load_spec

CONTROL_SPEC: Final = "pinecone-db_control_2026-04.oas.yaml"
DATA_SPEC: Final = "pinecone-db_data_2026-04.oas.yaml"


@contextlib.asynccontextmanager
async def _pinecone(folder: Path, address: str) -> AsyncIterator[VectorStore]:
    del folder, address  # it is held in memory
    server = PineconeServer(load_spec(CONTROL_SPEC), load_spec(DATA_SPEC))
    transport = Transport.over_httpx(httpx.MockTransport(server.answer))
    config = PineconeConfig(name="pinecone-main", api_key=SecretStr(API_KEY), cloud="aws", region="us-east-1")
    try:
        yield Pinecone(config, transport)
    finally:
        await transport.aclose()


PINECONE: Final = Entry(
    open=_pinecone,
    missing=frozenset({"hybrid", "order of strings", "vectors of zeros"}),
    weaker=frozenset({"ties"}),
    says="Pinecone",
)
