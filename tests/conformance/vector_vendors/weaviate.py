"""Weaviate over a server of ours, whose traffic is checked against the vendor's document."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
from pydantic import SecretStr

from app.ports.vectors import VectorStore
from app.providers.transport import Transport
from app.providers.weaviate.adapter import Weaviate, WeaviateConfig
from tests.conformance.vector_vendors.entry import Entry
from tests.conformance.vector_vendors.weaviate_server import API_KEY, WeaviateServer
from tests.providers.specs import load_spec

SPEC: Final = "weaviate-schema.json"


@contextlib.asynccontextmanager
async def _weaviate(folder: Path, address: str) -> AsyncIterator[VectorStore]:
    del folder, address  # it is held in memory
    server = WeaviateServer(load_spec(SPEC))
    transport = Transport.over_httpx(httpx.MockTransport(server.answer))
    try:
        yield Weaviate(WeaviateConfig(name="weaviate-main", api_key=SecretStr(API_KEY)), transport)
    finally:
        await transport.aclose()


WEAVIATE: Final = Entry(open=_weaviate, weaker=frozenset({"ties"}), says="Weaviate")
