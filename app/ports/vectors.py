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
class VectorQuery:
    """One search: the `top_k` records nearest to `vector` that pass `filter`. `namespace` None is the default
    one."""

    vector: Sequence[float]
    top_k: int
    filter: Filter | None = None
    namespace: str | None = None
    include_metadata: bool = True
    include_vectors: bool = False
    hybrid: Hybrid | None = None
    model: str | None = None
    """The embedding model that made the vector, where the caller knows it."""


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

    `model` of a query or an upsert is for the wrapper that keeps indexes to one model; databases pay no heed
    to it.
    """

    async def search(self, index: str, query: VectorQuery, *, context: CallContext) -> Sequence[VectorHit]:
        """What the query asks for, best first; ties are broken by id."""
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
        """Insert or replace by id; returns how many records were written. All or none, unless an adapter says
        that its database cannot; then the same upsert can be made again."""
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
