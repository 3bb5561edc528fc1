"""Ollama's own embed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.ollama.adapter import Ollama, OllamaConfig
from app.providers.transport import Transport
from tests.conformance.embed_vendors.vendor import KEY, EmbedVendor, EmbedWire


def _connect(transport: Transport) -> Embedder:
    return Ollama(OllamaConfig(name="main", api_key=SecretStr(KEY)), transport)


def _answer(request: Mapping[str, Any], vectors: Sequence[Any]) -> Mapping[str, Any]:
    return {
        "model": request["model"],
        "embeddings": list(vectors),
        "total_duration": 14143917,
        "load_duration": 1019500,
        "prompt_eval_count": len(request["input"]),
    }


def _error(status: int, message: str) -> Mapping[str, Any]:
    del status  # it is not repeated in the body
    return {"error": message}


VENDOR: Final = EmbedVendor(
    connect=_connect,
    wire=EmbedWire(
        texts=lambda request: request["input"],
        answer=_answer,
        error=_error,
        dimensions=lambda request: request.get("dimensions"),
    ),
)
