"""What the steps need of a vector database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from app.ports.models import CallContext

Metric = Literal["cosine", "dot", "euclidean"]
Filter = Mapping[str, Any]
"""Metadata filter: `{field: value}` or `{field: {"$gte": 3}}`, joined by `$and`, `$or`, `$not`.

Operators: `$eq $ne $gt $gte $lt $lte $in $nin $exists`. Several fields of one mapping must all hold.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorRecord:
    """One stored vector. `metadata` holds JSON scalars and lists of strings."""

    id: str
    vector: Sequence[float]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorHit:
    """One search result; a higher `score` is nearer, whatever the metric."""

    id: str
    score: float
    metadata: Mapping[str, Any] | None = None
    vector: Sequence[float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hybrid:
    """A search by words beside the search by vector. `alpha` weighs the vector's part: 1 is the vector
    alone, 0 the words alone."""

    text: str
    alpha: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexInfo:
    """What an index holds. `dimensions` is None while it is empty and was never written."""

    name: str
    dimensions: int | None
    metric: Metric
    count: int


class VectorStore(Protocol):
    """One vector database instance. Raises `PermanentError` / `TemporaryError` only.

    Namespaces part an index; `None` is the default namespace. An index comes into being at its first
    upsert, which fixes its dimensions. Searching an index that does not exist is a `PermanentError`
    of class `not_found`; a vector of another length is one of class `invalid_request`, and so is a hybrid
    search or a filter operator that the database does not have.

    `model` is the embedding model that made the vectors, where the caller knows it. It is for the wrapper
    that keeps indexes to one model; databases pay no heed to it.
    """

    async def search(
        self,
        index: str,
        vector: Sequence[float],
        *,
        top_k: int,
        filter: Filter | None,
        namespace: str | None,
        include_metadata: bool,
        include_vectors: bool,
        context: CallContext,
        hybrid: Hybrid | None = None,
        model: str | None = None,
    ) -> Sequence[VectorHit]:
        """The `top_k` nearest records that pass the filter, best first; ties are broken by id."""
        ...

    async def upsert(
        self,
        index: str,
        records: Sequence[VectorRecord],
        *,
        namespace: str | None,
        context: CallContext,
        model: str | None = None,
    ) -> int:
        """Insert or replace by id, all or none; returns how many records were written."""
        ...

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
        """Delete by exactly one of ids, filter or everything in the namespace; returns how many went."""
        ...

    async def describe(self, index: str) -> IndexInfo:
        """What the index holds."""
        ...

    async def check(self) -> None:
        """Raise if the database cannot serve."""
        ...
