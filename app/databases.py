"""Vector databases by vendor, from the operator's configuration to adapters: a part of the composition root.

A vendor is its adapter and its config class (a frozen dataclass with `name`) in `app.providers`, or in
`app.stores` where it is spoken to in SQL, one builder here and one line in `VENDORS`; nothing else knows
its name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from app.configuration import DatabaseConfig
from app.ports.vectors import VectorStore
from app.providers.chroma.adapter import Chroma, ChromaConfig
from app.providers.guard import Guard
from app.providers.pinecone.adapter import Pinecone, PineconeConfig
from app.providers.qdrant.adapter import Qdrant, QdrantConfig
from app.providers.statuses import WatchedDatabase
from app.providers.transport import Transport
from app.providers.weaviate.adapter import Weaviate, WeaviateConfig
from app.providers.wrapping import InstanceTerms, Wrapping
from app.stores.pgvector.adapter import PgVector, PgVectorConfig


async def _nothing_to_close() -> None:
    """Most adapters hold nothing of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """One database of the configuration."""

    name: str
    vendor: str
    store: VectorStore
    hybrid: bool = False
    """Whether it searches by words beside the vector."""
    guard: Guard | None = None
    """What stands before it, once it is wrapped."""
    aclose: Callable[[], Awaitable[None]] = _nothing_to_close


def _qdrant(config: QdrantConfig, transport: Transport) -> Database:
    return Database(name=config.name, vendor="qdrant", store=Qdrant(config, transport))


def _pinecone(config: PineconeConfig, transport: Transport) -> Database:
    return Database(name=config.name, vendor="pinecone", store=Pinecone(config, transport))


def _weaviate(config: WeaviateConfig, transport: Transport) -> Database:
    return Database(name=config.name, vendor="weaviate", store=Weaviate(config, transport), hybrid=True)


def _chroma(config: ChromaConfig, transport: Transport) -> Database:
    return Database(name=config.name, vendor="chroma", store=Chroma(config, transport))


def _pgvector(config: PgVectorConfig, transport: Transport) -> Database:
    del transport  # it speaks no HTTP
    store = PgVector(config)
    return Database(name=config.name, vendor="pgvector", store=store, hybrid=True, aclose=store.close)


VENDORS: Final[Mapping[type[DatabaseConfig], Callable[[Any, Transport], Database]]] = {
    QdrantConfig: _qdrant,
    PineconeConfig: _pinecone,
    WeaviateConfig: _weaviate,
    ChromaConfig: _chroma,
    PgVectorConfig: _pgvector,
}
"""How a database is built, by the class of its config."""


def build_database(
    config: DatabaseConfig, transport: Transport, wrapping: Wrapping, terms: InstanceTerms
) -> Database:
    """One database with everything around it. Raises `ValueError` for a configuration that cannot work."""
    bare = VENDORS[type(config)](config, transport)
    guard = wrapping.guard(bare.name, terms, what=f"database {bare.name!r}")
    return replace(bare, store=wrapping.guarded_vectors(bare.store, guard), guard=guard)


def watched(databases: Iterable[Database]) -> list[WatchedDatabase]:
    """The databases as their status is told."""
    return [
        WatchedDatabase(name=it.name, vendor=it.vendor, hybrid=it.hybrid, guard=it.guard) for it in databases
    ]
