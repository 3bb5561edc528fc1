"""Embeddings in process, from static weights: a text's vector is the mean of its tokens' rows, of length one.

The weights are those of `wordllama` (MIT licence), read without that package: it would look for files on
the network. They were trained so that the first 64 or 128 numbers of a vector are a vector as well.
numpy and tokenizers are imported with the first call, in a thread; a short text then takes less time
than handing it to a thread would.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from app.ports.errors import PermanentError
from app.ports.models import CallContext, EmbedRequest, EmbedResult, Usage
from app.ports.turns import computed
from app.providers.local.packages import EMBEDDING_MODEL, EmbeddingFiles, embedding_files

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DIMENSIONS: Final = (64, 128, 256)
_MAX_BATCH: Final = 1_000
_INLINE_CHARACTERS: Final = 2_000
_DECIMALS: Final = 6
"""Enough for a vector of length one, and half the size in the journal."""


@dataclass(frozen=True, slots=True)
class _Weights:
    rows: npt.NDArray[np.float16]
    tokenizer: Any
    """A `tokenizers.Tokenizer`."""


class LocalEmbedder:
    """Implements `app.ports.models.Embedder` for the model `wordllama-256`."""

    def __init__(self) -> None:
        self.max_batch = _MAX_BATCH
        self.max_batch_tokens: int | None = None
        self._weights: _Weights | None = None
        self._loading = asyncio.Lock()

    async def embed(self, request: EmbedRequest, context: CallContext) -> EmbedResult:
        """See the port. Raises `PermanentError`: unknown model, dimensions, empty text, not installed."""
        del context  # no wire to wait for: a full batch takes a fraction of a second
        dimensions = _checked(request)
        weights = self._weights or await self._load()
        if sum(map(len, request.texts)) <= _INLINE_CHARACTERS:
            return _embed(weights, request, dimensions)
        return await computed(_embed, weights, request, dimensions)

    async def _load(self) -> _Weights:
        async with self._loading:
            if self._weights is None:
                self._weights = await computed(_read, embedding_files())
            return self._weights


def _checked(request: EmbedRequest) -> int:
    if request.model != EMBEDDING_MODEL:
        raise PermanentError(
            "not_found", f"there is no local embedding model {request.model!r}; use {EMBEDDING_MODEL!r}"
        )
    dimensions = request.dimensions or DIMENSIONS[-1]
    if dimensions not in DIMENSIONS:
        raise PermanentError(
            "invalid_request", f"{EMBEDDING_MODEL!r} has no vectors of {dimensions}; use one of {DIMENSIONS}"
        )
    return dimensions


def _read(files: EmbeddingFiles) -> _Weights:
    tensors = import_module("safetensors.numpy").load_file(files.weights)
    tokenizer = import_module("tokenizers").Tokenizer.from_file(str(files.tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return _Weights(tensors["embedding.weight"], tokenizer)


def _embed(weights: _Weights, request: EmbedRequest, dimensions: int) -> EmbedResult:
    vectors: list[list[float]] = []
    tokens = 0
    for i, text in enumerate(request.texts):
        # One at a time: encode_batch starts threads of its own, which do not survive a later fork.
        token_ids = weights.tokenizer.encode(text, add_special_tokens=False).ids
        if not token_ids:
            raise PermanentError("invalid_request", f"text {i} is empty; embed only texts with words in them")
        tokens += len(token_ids)
        vectors.append(_pooled(weights, token_ids, dimensions))
    return EmbedResult(vectors=vectors, model=EMBEDDING_MODEL, usage=Usage(input_tokens=tokens))


def _pooled(weights: _Weights, token_ids: list[int], dimensions: int) -> list[float]:
    import numpy as np  # noqa: PLC0415 - heavy, see the module's docstring

    # Distinct tokens, weighed: however long the text, no more rows than the vocabulary has.
    distinct, counts = np.unique(token_ids, return_counts=True)
    total = counts @ weights.rows[distinct, :dimensions].astype(np.float64)
    length = float(np.linalg.norm(total))
    vector: list[float] = (total / (length or 1.0)).round(_DECIMALS).tolist()
    return vector
