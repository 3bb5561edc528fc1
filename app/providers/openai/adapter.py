"""OpenAI, and every server that speaks its chat completions and embeddings nearly as it does.

What OpenAI's own models are known to refuse is refused before any call, at its own hosts only: of other
servers nothing is known. Calls and format are in the other modules of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.providers.json_api import Endpoint, bearer, endpoint_of, is_set
from app.providers.openai.completions import CompletionsApi
from app.providers.openai.dialect import (
    Dialect,
    EmbeddingFormat,
    StructuredOutputs,
    limit_key_of,
    plain_limit_key,
)
from app.providers.openai.models import MAX_BATCH_TOKENS, VECTOR_SIZES, limit_key
from app.providers.transport import Transport

OFFICIAL_HOST: Final = "api.openai.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `embedding_format` base64 costs a quarter of the bytes and half of the CPU; some servers take only
    float. `max_tokens_key` None: what OpenAI's model wants, `max_tokens` at other servers. `headers` go
    with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "https://api.openai.com/v1"
    api_key: SecretStr | None = None
    organization: str | None = None
    project: str | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    embedding_format: EmbeddingFormat = "base64"
    structured_outputs: StructuredOutputs = "json_schema"
    max_tokens_key: str | None = None


class OpenAI(CompletionsApi):
    """One instance as `ChatModel` and `Embedder`."""

    def __init__(self, config: OpenAIConfig, transport: Transport) -> None:
        super().__init__(transport, _endpoint(config), _dialect(config), has_key=is_set(config.api_key))


def _dialect(config: OpenAIConfig) -> Dialect:
    host = urlsplit(config.base_url).hostname or ""
    official = host == OFFICIAL_HOST or host.endswith(f".{OFFICIAL_HOST}")
    return Dialect(
        vendor="OpenAI" if official else "the server",
        needs_key=official,
        limit_key=limit_key_of(config.max_tokens_key, limit_key if official else plain_limit_key),
        structured_outputs=config.structured_outputs,
        max_batch_tokens=MAX_BATCH_TOKENS if official else None,
        embedding_format=config.embedding_format,
        takes_input_type=not official,
        takes_empty_texts=not official,
        vector_sizes=VECTOR_SIZES if official else {},
    )


def _endpoint(config: OpenAIConfig) -> Endpoint:
    own = {"openai-organization": config.organization, "openai-project": config.project}
    headers = {**config.headers, **{name: value for name, value in own.items() if value}}
    return endpoint_of(config, bearer(config.api_key), headers)
