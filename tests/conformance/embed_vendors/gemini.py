"""Google's Gemini API: batchEmbedContents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.gemini.adapter import Gemini, GeminiConfig
from app.providers.transport import Transport
from tests.conformance.embed_vendors.vendor import KEY, EmbedVendor, EmbedWire


def _connect(transport: Transport) -> Embedder:
    return Gemini(GeminiConfig(name="main", api_key=SecretStr(KEY)), transport)


def _keyless(transport: Transport) -> Embedder:
    return Gemini(GeminiConfig(name="main"), transport)


def _texts(request: Mapping[str, Any]) -> Sequence[str]:
    return [part["text"] for item in request["requests"] for part in item["content"]["parts"]]


def _answer(request: Mapping[str, Any], vectors: Sequence[Any]) -> Mapping[str, Any]:
    return {
        "embeddings": [{"values": vector} for vector in vectors],
        "usageMetadata": {"promptTokenCount": len(request["requests"])},
    }


def _error(status: int, message: str) -> Mapping[str, Any]:
    return {"error": {"code": status, "message": message, "status": "UNKNOWN"}}


def _dimensions(request: Mapping[str, Any]) -> int | None:
    length: int | None = request["requests"][0].get("outputDimensionality")
    return length


VENDOR: Final = EmbedVendor(
    connect=_connect,
    wire=EmbedWire(texts=_texts, answer=_answer, error=_error, dimensions=_dimensions, keyless=_keyless),
)
