"""Mistral's embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.mistral import Mistral, MistralConfig
from app.providers.transport import Transport
from tests.conformance.embed_vendors.vendor import KEY, EmbedVendor, EmbedWire


def _connect(transport: Transport) -> Embedder:
    return Mistral(MistralConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> Embedder:
    return Mistral(MistralConfig(name="main"), transport)


def _answer(request: Mapping[str, Any], vectors: Sequence[Any]) -> Mapping[str, Any]:
    assert request["encoding_format"] == "float"
    tokens = len(request["input"])
    return {
        "id": "embd-1",
        "object": "list",
        "model": request["model"],
        "data": [{"object": "embedding", "index": i, "embedding": it} for i, it in enumerate(vectors)],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens},
    }


def _error(status: int, message: str) -> Mapping[str, Any]:
    return {"object": "error", "message": message, "type": "error", "param": None, "code": str(status)}


VENDOR: Final = EmbedVendor(
    connect=_connect,
    wire=EmbedWire(
        texts=lambda request: request["input"],
        answer=_answer,
        error=_error,
        dimensions=lambda request: request.get("output_dimension"),
        keyless=_keyless,
    ),
)
