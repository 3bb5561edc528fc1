"""Azure OpenAI: OpenAI's models and format, reached by the names of deployments.

Both surfaces of Microsoft's documentation ("Azure OpenAI in Microsoft Foundry Models REST API reference"):
`deployments` has the deployment in the path and a dated `api-version`, `v1` has it where the model stands.
Calls and format are in the package `openai`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal
from urllib.parse import quote, urlsplit

from pydantic import SecretStr

from app.ports.errors import PermanentError
from app.providers.json_api import bearer, endpoint_of, is_set, key_in
from app.providers.json_format import VendorError, text
from app.providers.openai import errors as openai_errors
from app.providers.openai.completions import CompletionsApi
from app.providers.openai.dialect import (
    Dialect,
    EmbeddingFormat,
    Operation,
    StructuredOutputs,
    limit_key_of,
)
from app.providers.openai.models import MAX_BATCH_TOKENS, VECTOR_SIZES, limit_key
from app.providers.transport import Transport

API_VERSION: Final = "2024-10-21"
"""The newest dated version that is no preview."""
OFFICIAL_DOMAINS: Final = (".azure.com", ".azure.us", ".azure.cn")
FILTERED: Final = "ResponsibleAIPolicyViolation"

_DEPLOYMENT: Final = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,64}")
_WAIT: Final = re.compile(r"retry after (\d{1,4}) seconds?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureConfig:
    """One resource, named by the operator. `max_concurrency` None means unlimited.

    `deployments` says which deployment serves a model; one that is not there is served by the deployment
    of its own name. `api_version` None: `API_VERSION` for `deployments`, none for `v1`. With `auth`
    bearer, `api_key` is a token of Microsoft Entra ID, or a gateway's. `max_tokens_key` None: what the
    model wants, by its name.
    """

    name: str
    base_url: str
    api_key: SecretStr | None = None
    auth: Literal["api_key", "bearer"] = "api_key"
    api: Literal["deployments", "v1"] = "deployments"
    api_version: str | None = None
    deployments: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str | SecretStr] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 600.0
    max_concurrency: int | None = None
    embedding_format: EmbeddingFormat = "base64"
    structured_outputs: StructuredOutputs = "json_schema"
    max_tokens_key: str | None = None


class Azure(CompletionsApi):
    """One resource as `ChatModel` and `Embedder`."""

    def __init__(self, config: AzureConfig, transport: Transport) -> None:
        key = bearer(config.api_key) if config.auth == "bearer" else key_in("api-key", config.api_key)
        endpoint = endpoint_of(config, key, config.headers)
        super().__init__(transport, endpoint, _dialect(config), has_key=is_set(config.api_key))


def read_error(answer: Mapping[str, Any]) -> VendorError | None:
    """The error an answer holds; what a content filter did stands in an error within it."""
    error = openai_errors.read_error(answer)
    if error is None:
        return None
    held = answer.get("error")
    inner = held.get("innererror") if isinstance(held, dict) else None
    if text(inner, "code") == FILTERED:
        return replace(error, code="content_filter")
    wait = _WAIT.search(error.message)
    return error if wait is None else replace(error, retry_after=float(wait[1]))


def _dialect(config: AzureConfig) -> Dialect:
    host = urlsplit(config.base_url).hostname or ""
    return Dialect(
        vendor="Azure OpenAI",
        needs_key=host.endswith(OFFICIAL_DOMAINS),
        path=_v1_path(config) if config.api == "v1" else _deployment_path(config),
        names=config.deployments,
        limit_key=limit_key_of(config.max_tokens_key, limit_key),
        structured_outputs=config.structured_outputs,
        max_batch_tokens=MAX_BATCH_TOKENS,
        embedding_format=config.embedding_format,
        takes_input_type=False,
        takes_empty_texts=False,
        vector_sizes=VECTOR_SIZES,
        read_error=read_error,
    )


def _deployment_path(config: AzureConfig) -> Callable[[Operation, str], str]:
    names, version = config.deployments, quote(config.api_version or API_VERSION, safe="")

    def path(operation: Operation, model: str) -> str:
        deployment = names.get(model, model)
        if _DEPLOYMENT.fullmatch(deployment) is None:
            raise PermanentError(
                "invalid_request",
                f"{deployment!r} is no name of a deployment of instance {config.name!r}; "
                "name one as the model, or ask the operator to map the model to one",
            )
        return f"/openai/deployments/{deployment}{operation}?api-version={version}"

    return path


def _v1_path(config: AzureConfig) -> Callable[[Operation, str], str]:
    version = quote(config.api_version or "", safe="")
    query = f"?api-version={version}" if version else ""

    def path(operation: Operation, model: str) -> str:
        del model  # it stands in the body
        return f"/openai/v1{operation}{query}"

    return path
