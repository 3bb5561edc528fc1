"""Cohere's v2 embed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.cohere.adapter import Cohere, CohereConfig
from app.providers.transport import Transport
from tests.conformance.embed_vendors.vendor import KEY, EmbedVendor, EmbedWire


def _connect(transport: Transport) -> Embedder:
    return Cohere(CohereConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> Embedder:
    return Cohere(CohereConfig(name="main"), transport)


def answer(request: Mapping[str, Any], vectors: Sequence[Any]) -> Mapping[str, Any]:
    """The body of an answer."""
    return {
        "id": "da6e531f",
        "texts": request["texts"],
        "embeddings": {"float": list(vectors)},
        "meta": {
            "api_version": {"version": "2", "is_experimental": False},
            "billed_units": {"input_tokens": len(request["texts"])},
        },
        "response_type": "embeddings_by_type",
    }


def _error(status: int, message: str) -> Mapping[str, Any]:
    del status  # it is not repeated in the body
    return {"id": "07734bd2", "message": message}


VENDOR: Final = EmbedVendor(
    connect=_connect,
    wire=EmbedWire(
        texts=lambda request: request["texts"],
        answer=answer,
        error=_error,
        dimensions=lambda request: request.get("output_dimension"),
        keyless=_keyless,
    ),
)
