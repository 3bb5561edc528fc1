"""The bytes of OpenAI's embeddings: requests out, answers in. No I/O.

Follows OpenAI's OpenAPI document (API version 2.3). Reading is lenient where counts and names are
missing, and strict about vectors: each text has exactly one, and all have the same length.
"""

from __future__ import annotations

import base64
import binascii
import math
import sys
from array import array
from collections.abc import Mapping
from typing import Any, Final

from app.ports.models import EmbedRequest, EmbedResult, Usage
from app.providers.json_format import Malformed, count, dump, objects, vectors
from app.providers.openai.dialect import Dialect, EmbeddingFormat
from app.providers.openai.format import model_name
from app.providers.transport import MAX_ANSWER_BYTES

VECTOR_BYTES: Final[Mapping[EmbeddingFormat, int]] = {"base64": 24 * 1024, "float": 96 * 1024}
"""What a vector of 4,096 numbers takes in an answer, at most."""


def embed_body(request: EmbedRequest, dialect: Dialect) -> bytes:
    """The body of `POST /embeddings`.

    Raises `ValueError` for what JSON or the server cannot carry: no text, an empty one, dimensions that the
    model cannot have.
    """
    if not request.texts:
        raise ValueError("there is no text to embed; give at least one")
    if not dialect.takes_empty_texts and "" in request.texts:
        raise ValueError(f"text {list(request.texts).index('')} is empty; leave it out")
    body: dict[str, Any] = {
        "model": dialect.names.get(request.model, request.model),
        "input": list(request.texts),
        "encoding_format": dialect.embedding_format,
    }
    if request.dimensions is not None:
        _check_dimensions(request.model, request.dimensions, dialect)
        body[dialect.dimensions_key] = request.dimensions
    if request.input_type is not None and dialect.takes_input_type:
        body["input_type"] = request.input_type
    return dump(body)


def read_embeddings(answer: Mapping[str, Any], request: EmbedRequest) -> EmbedResult:
    """Vectors in the order of the texts, whatever order they came in."""
    data = objects(answer.get("data"))
    if len(data) != len(request.texts):
        raise Malformed(f"it has {len(data)} embeddings for {len(request.texts)} texts")
    by_index = {str(item.get("index", place)): item for place, item in enumerate(data)}
    try:
        found = [_decoded(by_index[str(place)].get("embedding")) for place in range(len(data))]
    except KeyError as error:
        raise Malformed(f"it has no embedding with index {error}") from None
    # Some servers count answers in tokens here too: none were made.
    usage = Usage(input_tokens=count(answer.get("usage"), "prompt_tokens"))
    return EmbedResult(
        vectors=vectors(found, texts=len(request.texts), dimensions=request.dimensions),
        model=model_name(answer, request.model),
        usage=usage,
    )


def most_bytes(texts: int, dialect: Dialect) -> int:
    """How large an answer with the vectors of so many texts may be."""
    return max(MAX_ANSWER_BYTES, texts * VECTOR_BYTES[dialect.embedding_format])


def _check_dimensions(model: str, wanted: int, dialect: Dialect) -> None:
    sizes = dialect.vector_sizes.get(model)
    if sizes is None:
        return
    if not sizes.choice:
        raise ValueError(f"vectors of {model!r} always have {sizes.most} dimensions; leave 'dimensions' out")
    if wanted > sizes.most:
        raise ValueError(
            f"vectors of {model!r} have at most {sizes.most} dimensions; lower 'dimensions' from {wanted}"
        )


def _decoded(embedding: object) -> object:
    """A vector in base64 as a list; anything else as it is."""
    if not isinstance(embedding, str):
        return embedding
    floats = array("f")
    try:
        floats.frombytes(base64.b64decode(embedding, validate=True))
    except (binascii.Error, ValueError):
        raise Malformed("an embedding is not base64 of 32-bit floats") from None
    if sys.byteorder == "big":
        floats.byteswap()
    if not math.isfinite(sum(floats)):
        raise Malformed("an embedding holds a number that is not finite")
    return floats.tolist()
