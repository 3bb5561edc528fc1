"""Mistral's chat completions and embeddings: OpenAI's format with some words of its own.

Mistral's API refuses options that it does not know, and ids of tool calls that are not of its own making:
nine letters and digits. Those of other vendors, in a conversation that is carried on here, are changed
the same way each time. Calls and format are in the package `openai`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from app.ports.errors import ErrorClass
from app.ports.models import Message
from app.providers.json_api import bearer, endpoint_of, is_set
from app.providers.json_format import VendorError
from app.providers.openai import errors as openai_errors
from app.providers.openai.completions import CompletionsApi
from app.providers.openai.dialect import (
    Dialect,
    EmbeddingFormat,
    Operation,
    StructuredOutputs,
    VectorSizes,
    plain_turn,
)
from app.providers.transport import Transport

OFFICIAL_HOST: Final = "api.mistral.ai"
MAX_BATCH: Final = 512
MAX_BATCH_TOKENS: Final = 16_384
"""Of all texts that are embedded in one call, as its refusals name the bound."""
CODES: Final[Mapping[str, ErrorClass]] = {
    "invalid_model": "not_found",
    "3210": "too_large",
}
"""By `code` or `type` of the error: what trying again cannot help."""
REFUSED: Final[Mapping[str, str]] = {
    "max_completion_tokens": "write 'max_tokens'",
    "seed": "write it as a key of the step",
    "user": "leave it out, or write 'metadata'",
    "logit_bias": "leave it out",
    "logprobs": "leave it out",
    "top_logprobs": "leave it out",
    "service_tier": "leave it out",
    "store": "leave it out",
    "verbosity": "leave it out",
}
"""OpenAI's options that Mistral does not have."""
VECTOR_SIZES: Final[Mapping[str, VectorSizes]] = {
    "mistral-embed": VectorSizes(most=1024, choice=False),
    "codestral-embed": VectorSizes(most=3072),
}

_CALL_ID: Final = re.compile(r"[A-Za-z0-9]{9}")
_TOO_MANY: Final = re.compile(r"too many (tokens|inputs)", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class MistralConfig:
    """One instance, named by the operator. `max_concurrency` None means unlimited.

    `headers` go with every request; secret ones are cut out of whatever the server says.
    """

    name: str
    base_url: str = "https://api.mistral.ai"
    api_key: SecretStr | None = None
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    embedding_format: EmbeddingFormat = "float"
    structured_outputs: StructuredOutputs = "json_schema"


class Mistral(CompletionsApi):
    """One instance as `ChatModel` and `Embedder`."""

    def __init__(self, config: MistralConfig, transport: Transport) -> None:
        endpoint = endpoint_of(config, bearer(config.api_key), config.headers)
        super().__init__(transport, endpoint, _dialect(config), has_key=is_set(config.api_key))


def classify(status: int, error: VendorError) -> ErrorClass | None:
    """See `app.providers.vendor_api.Classify`."""
    known = CODES.get(error.code) or CODES.get(error.type)
    if known is None and status == 400 and _TOO_MANY.search(error.message):  # noqa: PLR2004  of HTTP
        return "too_large"
    return known or openai_errors.classify(status, error)


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer holds, with what to do about a batch that is too large."""
    error = openai_errors.read_error(answer)
    if error is None or not _TOO_MANY.search(error.message):
        return error
    return replace(error, message=f"{error.message}; lower the 'batch_size' of the step")


def write_turn(message: Message) -> dict[str, Any]:
    """A turn whose calls have ids that Mistral takes."""
    turn = plain_turn(message)
    if isinstance(turn.get("tool_call_id"), str):
        turn["tool_call_id"] = call_id(turn["tool_call_id"])
    calls = turn.get("tool_calls")
    if isinstance(calls, Sequence) and not isinstance(calls, str):
        turn["tool_calls"] = [
            {**call, "id": call_id(str(call.get("id") or ""))} if isinstance(call, Mapping) else call
            for call in calls
        ]
    return turn


def call_id(id: str) -> str:
    """The id itself, or nine characters that stand for it."""
    return id if _CALL_ID.fullmatch(id) else hashlib.sha256(id.encode(errors="replace")).hexdigest()[:9]


def _path(operation: Operation, model: str) -> str:
    del model  # it stands in the body
    return f"/v1{operation}"


def _dialect(config: MistralConfig) -> Dialect:
    return Dialect(
        vendor="Mistral",
        needs_key=urlsplit(config.base_url).hostname == OFFICIAL_HOST,
        path=_path,
        turn=write_turn,
        seed_key="random_seed",
        tool_choices={"required": "any"},
        refused=REFUSED,
        structured_outputs=config.structured_outputs,
        asks_for_usage=False,
        max_batch=MAX_BATCH,
        max_batch_tokens=MAX_BATCH_TOKENS,
        embedding_format=config.embedding_format,
        dimensions_key="output_dimension",
        takes_input_type=False,
        takes_empty_texts=False,
        vector_sizes=VECTOR_SIZES,
        read_error=read_error,
        classify=classify,
    )
