"""The bytes of OpenAI's embeddings: requests out, answers in. No I/O.

Follows OpenAI's OpenAPI document (API version 2.3). Reading is lenient where counts and names are
missing, and strict about vectors: each text has exactly one, and all have the same length.
"""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Mapping
from typing import Any

from app.ports.models import EmbedRequest, EmbedResult, Usage
from app.providers.json_format import Malformed, count, dump, objects
from app.providers.openai.dialect import Dialect
from app.providers.openai.format import model_name


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
        vectors = [_vector(by_index[str(place)].get("embedding")) for place in range(len(data))]
    except KeyError as error:
        raise Malformed(f"it has no embedding with index {error}") from None
    expected = request.dimensions or (len(vectors[0]) if vectors else 0)
    for vector in vectors:
        if not vector or len(vector) != expected:
            raise Malformed(f"an embedding has {len(vector)} dimensions instead of {expected}")
    # Some servers count answers in tokens here too: none were made.
    usage = Usage(input_tokens=count(answer.get("usage"), "prompt_tokens"))
    return EmbedResult(vectors=vectors, model=model_name(answer, request.model), usage=usage)


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


def _vector(embedding: object) -> list[float]:
    if isinstance(embedding, list) and all(type(value) in (float, int) for value in embedding):
        return embedding
    if isinstance(embedding, str):
        floats = array("f")
        try:
            floats.frombytes(base64.b64decode(embedding, validate=True))
        except (binascii.Error, ValueError):
            raise Malformed("an embedding is not base64 of 32-bit floats") from None
        if sys.byteorder == "big":
            floats.byteswap()
        return floats.tolist()
    raise Malformed("an embedding is neither a list of numbers nor base64")
