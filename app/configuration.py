"""Settings as the parts of the service want them: configurations, policies, what must not be logged.

Pure conversions, used by the composition root and the entry points. What does not belong here: making
adapters of them.
"""

from __future__ import annotations

from typing import assert_never

from pydantic import SecretStr

from app.providers.echo import EchoConfig
from app.providers.instances import InstanceConfig, LocalConfig
from app.providers.openai import OpenAIConfig
from app.security.redaction import Redactor
from app.services.webhook_decisions import DAY, DeliveryPolicy
from app.settings import EchoSettings, LocalSettings, OpenAISettings, ProviderSettings, Settings


def instance_config(name: str, config: ProviderSettings) -> InstanceConfig:
    """A provider of the settings, by its name there."""
    match config:
        case OpenAISettings():
            return OpenAIConfig(
                name=name,
                base_url=config.base_url,
                api_key=config.api_key,
                organization=config.organization,
                project=config.project,
                headers=config.headers,
                embedding_format=config.embedding_format,
                timeout_seconds=config.timeout_seconds,
                max_concurrency=config.max_concurrency,
            )
        case EchoSettings():
            return EchoConfig(name=name, latency_ms=config.latency_ms)
        case LocalSettings():
            return LocalConfig(name=name, threads=config.threads, max_concurrency=config.max_concurrency)
        case _:
            assert_never(config)


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
    secrets: list[SecretStr] = []
    for config in settings.all_providers().values():
        if isinstance(config, OpenAISettings):
            secrets += config.headers.values()
            secrets += () if config.api_key is None else (config.api_key,)
    if settings.webhooks.secret is not None:
        secrets.append(settings.webhooks.secret)
    return Redactor(secret.get_secret_value() for secret in secrets)
