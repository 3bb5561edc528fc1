"""Settings as the parts of the service want them: configurations, policies, what must not be logged.

Pure conversions, used by the composition root and the entry points. What does not belong here: making
adapters of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, Final, Protocol, TypeVar, cast
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

from app.ports.provider_status import Bounds
from app.providers.anthropic.adapter import AnthropicConfig
from app.providers.azure import AzureConfig
from app.providers.breaker import BreakerPolicy
from app.providers.chroma.adapter import ChromaConfig
from app.providers.cohere.adapter import CohereConfig
from app.providers.echo import EchoConfig
from app.providers.gemini.adapter import GeminiConfig
from app.providers.instances import InstanceConfig, LocalConfig
from app.providers.mistral import MistralConfig
from app.providers.ollama.adapter import OllamaConfig
from app.providers.openai.adapter import OpenAIConfig
from app.providers.pinecone.adapter import PineconeConfig
from app.providers.qdrant.adapter import QdrantConfig
from app.providers.rerank_server import RerankServerConfig
from app.providers.weaviate.adapter import WeaviateConfig
from app.providers.wrapping import InstanceTerms
from app.security.redaction import Redactor
from app.services.webhook_decisions import DAY, DeliveryPolicy
from app.settings import Settings
from app.settings_providers import (
    AnthropicSettings,
    AzureSettings,
    ChromaSettings,
    CohereSettings,
    DatabaseSettings,
    EchoSettings,
    GeminiSettings,
    LocalSettings,
    MistralSettings,
    OllamaSettings,
    OpenAISettings,
    PgVectorSettings,
    PineconeSettings,
    ProviderSettings,
    QdrantSettings,
    RerankServerSettings,
    WeaviateSettings,
)
from app.stores.pgvector.adapter import PgVectorConfig

T = TypeVar("T")


class DatabaseConfig(Protocol):
    """What every vendor's config has."""

    @property
    def name(self) -> str:
        """What workflows call the database."""
        ...


INSTANCES: Final[Mapping[type[BaseModel], type[InstanceConfig]]] = {
    OpenAISettings: OpenAIConfig,
    AzureSettings: AzureConfig,
    MistralSettings: MistralConfig,
    AnthropicSettings: AnthropicConfig,
    CohereSettings: CohereConfig,
    RerankServerSettings: RerankServerConfig,
    GeminiSettings: GeminiConfig,
    OllamaSettings: OllamaConfig,
    EchoSettings: EchoConfig,
    LocalSettings: LocalConfig,
}
DATABASES: Final[Mapping[type[BaseModel], type[DatabaseConfig]]] = {
    QdrantSettings: QdrantConfig,
    PineconeSettings: PineconeConfig,
    WeaviateSettings: WeaviateConfig,
    ChromaSettings: ChromaConfig,
    PgVectorSettings: PgVectorConfig,
}


def instance_terms(settings: ProviderSettings | DatabaseSettings) -> InstanceTerms:
    """What the settings say of an instance or a database that its adapter need not know."""
    models: Mapping[str, BaseModel] = getattr(settings, "models", {})
    return InstanceTerms(
        vendor=settings.vendor,
        bounds=_bounds(settings),
        models={model: _bounds(limits) for model, limits in models.items()},
    )


def breaker_policy(settings: Settings) -> BreakerPolicy | None:
    """When circuit breakers open and for how long; None where they are switched off."""
    breaker = settings.breaker
    if not breaker.enabled:
        return None
    return BreakerPolicy(
        window_seconds=breaker.window_seconds,
        min_calls=breaker.min_calls,
        failure_ratio=breaker.failure_ratio,
        open_seconds=breaker.open_seconds,
        max_open_seconds=breaker.max_open_seconds,
        probe_seconds=breaker.probe_seconds,
    )


def _bounds(settings: BaseModel) -> Bounds:
    return Bounds(**{field.name: getattr(settings, field.name, None) for field in fields(Bounds)})


def instance_config(name: str, settings: ProviderSettings) -> InstanceConfig:
    """A provider of the settings, by its name there."""
    return _config(INSTANCES[type(settings)], name, settings)


def database_config(name: str, settings: DatabaseSettings) -> DatabaseConfig:
    """A vector database of the settings, by its name there."""
    return _config(DATABASES[type(settings)], name, settings)


def _config(made: Callable[..., T], name: str, settings: BaseModel) -> T:
    """A config takes the settings of its own field names."""
    known = {field.name for field in fields(cast("type[Any]", made))} & set(type(settings).model_fields)
    return made(name=name, **{key: getattr(settings, key) for key in known})


def delivery_policy(settings: Settings) -> DeliveryPolicy:
    """How webhooks are delivered."""
    webhooks = settings.webhooks
    return DeliveryPolicy(
        max_attempts=webhooks.max_attempts,
        retry_seconds=webhooks.retry_seconds,
        retry_factor=webhooks.retry_factor,
        max_retry_seconds=webhooks.max_retry_seconds,
        timeout_seconds=webhooks.timeout_seconds,
        concurrency=webhooks.concurrency,
        concurrency_per_target=webhooks.concurrency_per_target,
        max_output_bytes=webhooks.max_output_bytes,
        keep_seconds=webhooks.keep_days * DAY,
    )


def webhook_secret(settings: Settings) -> str | None:
    """What signs webhooks that came with a run and bring no secret of their own."""
    secret = settings.webhooks.secret
    return None if secret is None else secret.get_secret_value()


def redactor(settings: Settings) -> Redactor:
    """Knows every secret of the settings, for logs and spans."""
    configured = [*settings.all_providers().values(), *settings.databases.values()]
    secrets = [secret for config in configured for secret in _secrets(config)]
    if settings.webhooks.secret is not None:
        secrets.append(settings.webhooks.secret)
    texts = [secret.get_secret_value() for secret in secrets]
    if settings.store.url is not None:
        texts += _credentials(settings.store.url.get_secret_value())
    return Redactor(texts)


def _credentials(url: str) -> list[str]:
    """A URL and the password in it, as it is written there and as it is."""
    password = urlsplit(url).password
    return [url] if not password else [url, password, unquote(password)]


def _secrets(config: BaseModel) -> Iterator[SecretStr]:
    """Those of one instance, however they are called there."""
    for value in dict(config).values():
        for held in value.values() if isinstance(value, dict) else (value,):
            if isinstance(held, SecretStr):
                yield held
