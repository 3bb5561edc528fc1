"""Settings of the instances of vendors, one class each: model providers and vector databases.

A vendor is one class here, its tag in the union, and its case in `app.configuration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, SecretStr, Tag

from app.settings_fields import BaseUrl, Headers


class Group(BaseModel):
    """Base of the groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitSettings(Group):
    """Bounds on the calls to one model of an instance."""

    max_concurrency: int | None = Field(None, ge=1, description="Calls in flight at once; none: no bound.")
    requests_per_minute: int | None = Field(None, ge=1, description="Calls a minute; none: no bound.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens a minute; none: no bound.")


class InstanceSettings(Group):
    """What the instances of all vendors have in common."""

    api_key: SecretStr | None = Field(None, description="The key of the instance.")
    headers: Headers = Field(
        default_factory=dict, description="Further headers, as a JSON object; their values count as secrets."
    )
    timeout_seconds: float = Field(120.0, gt=0, description="Longest that one call may take.")
    max_concurrency: int = Field(256, ge=1, description="Calls to this instance in flight at once.")
    requests_per_minute: int | None = Field(None, ge=1, description="Calls a minute; none: no bound.")
    tokens_per_minute: int | None = Field(None, ge=1, description="Tokens a minute; none: no bound.")
    models: dict[str, LimitSettings] = Field(
        default_factory=dict, description="Bounds on single models, as a JSON object by model."
    )


class OpenAISettings(InstanceSettings):
    """An instance of the OpenAI API, or of a server that speaks it."""

    vendor: Literal["openai"] = Field("openai", description="The instance speaks OpenAI's API.")
    base_url: BaseUrl = Field("https://api.openai.com/v1", description="Everything before /chat/completions.")
    organization: str | None = Field(None, description="OpenAI-Organization header.")
    project: str | None = Field(None, description="OpenAI-Project header.")
    embedding_format: Literal["base64", "float"] = Field(
        "base64", description="How vectors are asked for; some servers know only float."
    )


class EchoSettings(Group):
    """Answers with what it was asked; for tests."""

    vendor: Literal["echo"] = Field("echo", description="The instance repeats what it is told.")
    latency_ms: float = Field(0.0, ge=0, description="Time that an answer takes.")


class LocalSettings(Group):
    """The packaged models of the `local` extra."""

    vendor: Literal["local"] = Field("local", description="The instance runs the packaged models.")
    threads: int | None = Field(
        None, ge=1, description="Threads of the LLM process; none: all cores but one, at most four."
    )
    max_concurrency: int = Field(2, ge=1, description="Completions in flight at once.")


def _vendor(value: Any) -> Any:
    """The vendor of an instance; most instances speak OpenAI's API, so it need not be named."""
    if isinstance(value, Mapping):
        return value.get("vendor", "openai")
    return getattr(value, "vendor", None)


ProviderSettings = Annotated[
    Annotated[OpenAISettings, Tag("openai")]
    | Annotated[EchoSettings, Tag("echo")]
    | Annotated[LocalSettings, Tag("local")],
    Discriminator(
        _vendor,
        custom_error_type="vendor",
        custom_error_message="vendor must be openai (also for servers that speak its API), echo or local",
    ),
]


class QdrantSettings(Group):
    """A Qdrant server."""

    vendor: Literal["qdrant"] = Field("qdrant", description="The database is Qdrant.")
    api_key: SecretStr | None = Field(None, description="Sent in the api-key header.")
    base_url: BaseUrl = Field("http://localhost:6333", description="Where its REST API is.")
    timeout_seconds: float = Field(30.0, gt=0, description="Longest that one request may take.")


def _database_vendor(value: Any) -> Any:
    return value.get("vendor") if isinstance(value, Mapping) else getattr(value, "vendor", None)


DatabaseSettings = Annotated[
    Annotated[QdrantSettings, Tag("qdrant")],
    Discriminator(
        _database_vendor,
        custom_error_type="vendor",
        custom_error_message="vendor must be qdrant",
    ),
]
