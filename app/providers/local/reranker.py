"""Reranking in process: documents by the cosine of their vectors with the query's.

The vectors are those of the packaged embedding model, so the order is that of a vector search over the
same texts. It shows the flow and sorts documents that come from elsewhere; a model that reads query and
document together knows better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from app.ports.errors import PermanentError
from app.ports.models import (
    CallContext,
    Embedder,
    EmbedRequest,
    RankedDocument,
    RerankRequest,
    RerankResult,
    Usage,
)
from app.ports.turns import computed

_INLINE_DOCUMENTS: Final = 20
_DECIMALS: Final = 6
_NO_WORDS: Final = 0.0
"""The cosine with nothing."""

Vector = Sequence[float]


class LocalReranker:
    """Implements `app.ports.models.Reranker` for the model `wordllama-256`. Scores are cosines, -1 to 1."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.max_documents = embedder.max_batch - 1  # the query is embedded with them

    async def rerank(self, request: RerankRequest, context: CallContext) -> RerankResult:
        """See the port. Raises `PermanentError`: unknown model, empty query, not installed."""
        if not request.query.strip():
            raise PermanentError("invalid_request", "the query is empty; write what is looked for")
        filled = [index for index, text in enumerate(request.documents) if text.strip()]
        texts = [request.query, *(request.documents[index] for index in filled)]
        embedded = await self._embedder.embed(EmbedRequest(model=request.model, texts=texts), context)
        query, *vectors = embedded.vectors
        if len(vectors) <= _INLINE_DOCUMENTS:
            cosines = _cosines(query, vectors)
        else:
            cosines = await computed(_cosines, query, vectors)
        scores = [_NO_WORDS] * len(request.documents)
        for index, cosine in zip(filled, cosines, strict=True):
            scores[index] = cosine
        best = sorted(range(len(scores)), key=lambda index: -scores[index])
        return RerankResult(
            ranking=[RankedDocument(index=index, score=scores[index]) for index in best[: request.top_n]],
            model=embedded.model,
            usage=Usage(input_tokens=embedded.usage.input_tokens),
        )


def _cosines(query: Vector, vectors: Sequence[Vector]) -> list[float]:
    """Products of vectors of length one, without what rounding adds beyond 1."""
    products = (sum(x * y for x, y in zip(query, vector, strict=True)) for vector in vectors)
    return [max(-1.0, min(1.0, round(product, _DECIMALS))) for product in products]
