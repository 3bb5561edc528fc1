"""What is known of OpenAI's own models, wherever they are served. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from app.providers.openai.dialect import VectorSizes

VECTOR_SIZES: Final[Mapping[str, VectorSizes]] = {
    "text-embedding-ada-002": VectorSizes(most=1536, choice=False),
    "text-embedding-3-small": VectorSizes(most=1536),
    "text-embedding-3-large": VectorSizes(most=3072),
}
"""OpenAI's documentation, "Vector embeddings"."""
MAX_BATCH_TOKENS: Final = 300_000
"""Of all texts that are embedded in one call (API reference, "Create embeddings")."""

_REASONING_MODEL: Final = re.compile(r"(ft:)?(o\d|gpt-([5-9]|\d\d))")


def limit_key(model: str) -> str:
    """What bounds an answer: models that reason do not take `max_tokens`."""
    return "max_completion_tokens" if _REASONING_MODEL.match(model) else "max_tokens"
