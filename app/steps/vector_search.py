"""The `vector_search` kind: the records of an index that are nearest to a vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import Field

from app.ports.problems import Problem
from app.ports.steps import StepContext, StepOutcome
from app.ports.vectors import Hybrid, VectorHit, VectorQuery
from app.steps.base import BaseKind
from app.steps.fields import FilledText, Flag, Int, Name, Number, Vector
from app.steps.filters import filter_problems
from app.steps.kind import StepConfig, Templated


class HybridConfig(StepConfig):
    """A search by words beside that by the vector."""

    text: Templated[FilledText]
    """The words to look for, such as the question as it was asked."""
    alpha: Templated[Annotated[Number, Field(ge=0, le=1)]] = 0.5
    """What the vector weighs: 1 it alone, 0 the words alone."""


class VectorSearchConfig(StepConfig):
    """Keys of a `vector_search` step."""

    database: Templated[Name]
    """A configured vector database, such as `embedded`."""
    index: Templated[Name]
    """The index. The first record makes it; all its vectors have one length."""
    query: Templated[Vector]
    """A vector."""
    top_k: Templated[Annotated[Int, Field(ge=1, le=10_000)]] = 10
    """How many hits there are at most."""
    filter: Templated[dict[str, Any]] | None = None
    """What the metadata of a hit must be like."""
    namespace: Templated[Name] | None = None
    """A part of the index that is kept apart."""
    include_metadata: Templated[Flag] = True
    """Give the metadata of each hit."""
    include_vectors: Templated[Flag] = False
    """Give the vector of each hit."""
    hybrid: Templated[HybridConfig] | None = None
    """Search by words as well, where the database can: `{text, alpha}`."""
    embedding_model: Templated[Name] | None = None
    """The model that made the vector. If absent: that of the `embed` step it comes from, where the document
    says so. An index holds vectors of one model."""


class VectorSearchKind(BaseKind):
    """Searches an index.

    Outputs: `hits`, best first: `[{id, score, metadata, vector?}]` (`metadata` is `{}` when it was not
    asked for, `vector` stands there only when it was), and `count`.
    """

    name: ClassVar[str] = "vector_search"
    config_model: ClassVar[type[StepConfig]] = VectorSearchConfig
    outputs: ClassVar[tuple[str, ...]] = ("hits", "count")
    only_reads: ClassVar[bool] = True

    def check(self, config: VectorSearchConfig) -> Iterable[Problem]:
        """Filter operators."""
        return filter_problems(config.filter, "filter")

    async def execute(self, config: VectorSearchConfig, context: StepContext) -> StepOutcome:
        """Search once. Raises what the vector store raises."""
        hybrid = config.hybrid
        hits = await context.services.vectors(config.database).search(
            config.index,
            VectorQuery(
                vector=config.query,
                top_k=config.top_k,
                filter=config.filter or None,
                namespace=config.namespace,
                include_metadata=config.include_metadata,
                include_vectors=config.include_vectors,
                hybrid=None if hybrid is None else Hybrid(text=hybrid.text, alpha=hybrid.alpha),
                model=config.embedding_model or context.embedding_model,
            ),
            context=context.call,
        )
        found = [_hit(hit, with_vector=config.include_vectors) for hit in hits]
        return StepOutcome(outputs={"hits": found, "count": len(found)})


def _hit(hit: VectorHit, *, with_vector: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": hit.id, "score": hit.score, "metadata": dict(hit.metadata or {})}
    if with_vector and hit.vector is not None:
        shown["vector"] = list(hit.vector)
    return shown
