"""OpenAI's embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import SecretStr

from app.ports.models import Embedder
from app.providers.openai.adapter import OpenAI, OpenAIConfig
from app.providers.transport import Transport
from tests.conformance.embed_vendors.vendor import KEY, EmbedVendor, EmbedWire


def _connect(transport: Transport) -> Embedder:
    return OpenAI(OpenAIConfig(name="main", api_key=SecretStr(KEY)), transport)


def _connect_floats(transport: Transport) -> Embedder:
    config = OpenAIConfig(name="main", api_key=SecretStr(KEY), embedding_format="float")
    return OpenAI(config, transport)


def _keyless(transport: Transport) -> Embedder:
    return OpenAI(OpenAIConfig(name="main"), transport)


def _encoded(vector: Any) -> Any:
    if not isinstance(vector, list) or not all(type(number) is float for number in vector):
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _answer(request: Mapping[str, Any], vectors: Sequence[Any]) -> Mapping[str, Any]:
    in_base64 = request["encoding_format"] == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector) if in_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    tokens = len(request["input"])
    return {
        "object": "list",
        "model": request["model"],
        "data": data[::-1],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _error(status: int, message: str) -> Mapping[str, Any]:
    del status  # it is not repeated in the body
    return {"error": {"message": message, "type": "error", "param": None, "code": None}}


_WIRE: Final = EmbedWire(
    texts=lambda request: request["input"],
    answer=_answer,
    error=_error,
    dimensions=lambda request: request.get("dimensions"),
    keyless=_keyless,
)
VENDOR: Final = EmbedVendor(connect=_connect, wire=_WIRE)
FLOATS: Final = EmbedVendor(connect=_connect_floats, wire=_WIRE)
