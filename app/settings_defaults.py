"""The instances there are when nothing is configured, and the vendors' own variables that they take.

A vendor is one line in each table. An instance without a key is there all the same: it refuses its first
call with what to do, which tells more than a name that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import SecretStr

from app.settings_fields import api_key, base_url
from app.settings_providers import (
    AnthropicSettings,
    CohereSettings,
    EchoSettings,
    GeminiSettings,
    InstanceSettings,
    LocalSettings,
    MistralSettings,
    OllamaSettings,
    OpenAISettings,
    ProviderSettings,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorVariables:
    """What a vendor's own clients read; of several names, the first that is set holds."""

    key: Sequence[str]
    base_url: Sequence[str] = ()


DEFAULT_INSTANCES: Final[Mapping[str, Callable[[], ProviderSettings]]] = {
    "openai": OpenAISettings,
    "anthropic": AnthropicSettings,
    "mistral": MistralSettings,
    "cohere": CohereSettings,
    "gemini": GeminiSettings,
    "ollama": OllamaSettings,
    "local": LocalSettings,
    "echo": EchoSettings,
}
VENDOR_VARIABLES: Final[Mapping[str, VendorVariables]] = {
    "openai": VendorVariables(key=["OPENAI_API_KEY"], base_url=["OPENAI_BASE_URL"]),
    "anthropic": VendorVariables(key=["ANTHROPIC_API_KEY"], base_url=["ANTHROPIC_BASE_URL"]),
    "mistral": VendorVariables(key=["MISTRAL_API_KEY"]),
    "cohere": VendorVariables(key=["COHERE_API_KEY", "CO_API_KEY"], base_url=["CO_API_URL"]),
    "gemini": VendorVariables(key=["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
}
"""By the name of the default instance that takes them."""


def default_providers() -> dict[str, ProviderSettings]:
    """The instances there are when nothing is configured."""
    return {name: made() for name, made in DEFAULT_INSTANCES.items()}


def variable_rows() -> Iterator[tuple[str, str, str]]:
    """Variable, default (none) and meaning of every variable of a vendor."""
    for instance, variables in VENDOR_VARIABLES.items():
        for names, what in ((variables.key, "Key"), (variables.base_url, "Base URL")):
            for place, name in enumerate(names):
                unless = f", if {' and '.join(names[:place])} is not set" if place else ""
                yield name, "", f"{what} of the default {instance} instance{unless}."


def with_default_vendors(providers: Any) -> Any:
    """Give what is set for a default instance that instance's vendor, where it names none.

    Without this a key of one vendor would go to the vendor that instances have when they name none.
    """
    if not isinstance(providers, Mapping):
        return providers
    vendors = {name: settings.vendor for name, settings in default_providers().items()}
    return {
        name: {"vendor": vendors[name], **given} if name in vendors and isinstance(given, Mapping) else given
        for name, given in providers.items()
    }


def with_vendor_variables(
    providers: Mapping[str, ProviderSettings], environment: Mapping[str, str]
) -> dict[str, ProviderSettings]:
    """Fill in what the settings of the default instances leave open.

    An instance that was given another vendor takes nothing. Raises `ValueError` for a base URL that is none.
    """
    filled = dict(providers)
    for name, variables in VENDOR_VARIABLES.items():
        settings = filled[name]
        if isinstance(settings, InstanceSettings) and settings.vendor == DEFAULT_INSTANCES[name]().vendor:
            filled[name] = settings.model_copy(update=_changes(settings, variables, environment))
    return filled


def _changes(
    settings: InstanceSettings, variables: VendorVariables, environment: Mapping[str, str]
) -> dict[str, object]:
    changes: dict[str, object] = {}
    key = next((name for name in variables.key if environment.get(name)), None)
    if key is not None and "api_key" not in settings.model_fields_set:
        try:
            changes["api_key"] = api_key(SecretStr(environment[key]))
        except ValueError as error:
            raise ValueError(f"{key} {error}") from None
    url = next((name for name in variables.base_url if environment.get(name)), None)
    if url is not None and "base_url" not in settings.model_fields_set:
        try:
            changes["base_url"] = base_url(environment[url])
        except ValueError as error:
            raise ValueError(f"{url} {error}") from None
    return changes
