"""The instances that are there anyway: their vendors, and the variables of the vendors' own clients."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from app.configuration import instance_config, redactor
from app.providers.anthropic.adapter import AnthropicConfig
from app.providers.prices import keyless
from app.settings import Settings
from app.settings_defaults import (
    DEFAULT_INSTANCES,
    VENDOR_VARIABLES,
    default_providers,
    variable_rows,
    with_vendor_variables,
)
from app.settings_providers import AnthropicSettings, InstanceSettings, OpenAISettings
from tests.cli.program import OF_VENDORS

KEY = "vendor-canary-77aa"


@pytest.fixture(autouse=True)
def _no_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OF_VENDORS:
        monkeypatch.delenv(name, raising=False)


def anthropic(settings: Settings) -> AnthropicSettings:
    found = settings.all_providers()["anthropic"]
    assert isinstance(found, AnthropicSettings)
    return found


@pytest.mark.parametrize(
    "variable", [name for variables in VENDOR_VARIABLES.values() for name in variables.base_url]
)
def test_a_base_url_of_a_vendors_variable_that_is_none_is_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "nowhere")
    with pytest.raises(ValidationError, match=f"{variable} must look like https://host/path"):
        Settings()


def test_a_default_instance_given_another_vendor_takes_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__ANTHROPIC__VENDOR", "openai")
    found = Settings().all_providers()["anthropic"]
    assert isinstance(found, OpenAISettings)
    assert found.api_key is None


def test_a_key_set_for_a_default_instance_goes_to_its_own_vendor_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__ANTHROPIC__API_KEY", KEY)
    found = anthropic(Settings())
    assert found.base_url == "https://api.anthropic.com"
    assert found.api_key == SecretStr(KEY)


def test_settings_go_before_a_vendors_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "other")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example/a")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__ANTHROPIC__API_KEY", KEY)
    found = anthropic(Settings())
    assert found.api_key == SecretStr(KEY)
    assert found.base_url == "https://gateway.example/a"


@pytest.mark.parametrize("name", VENDOR_VARIABLES)
def test_a_vendors_variables_make_its_default_instance_work_and_its_key_a_secret(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(default_providers()[name], InstanceSettings)
    monkeypatch.setenv(VENDOR_VARIABLES[name].key[0], KEY)
    settings = Settings()
    found = settings.all_providers()[name]
    assert isinstance(found, InstanceSettings)
    assert found.api_key == SecretStr(KEY)
    assert KEY not in redactor(settings).text(f"the server said {KEY}")


def test_of_several_variables_the_first_that_is_set_holds() -> None:
    first, second = VENDOR_VARIABLES["gemini"].key
    for environment, key in (
        ({second: "b"}, "b"),
        ({first: "", second: "b"}, "b"),
        ({first: "a", second: "b"}, "a"),
    ):
        found = with_vendor_variables(default_providers(), environment)["gemini"]
        assert isinstance(found, InstanceSettings)
        assert found.api_key == SecretStr(key)
    assert (second, "", f"Key of the default gemini instance, if {first} is not set.") in variable_rows()


def test_instances_without_a_key_are_there_and_told_of() -> None:
    providers = Settings().all_providers()
    assert providers.keys() == DEFAULT_INSTANCES.keys()
    assert {"openai", "anthropic"} <= keyless(instance_config(*it) for it in providers.items())


def test_settings_of_an_instance_reach_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("VENDOR", "anthropic"),
        ("API_KEY", KEY),
        ("BASE_URL", "http://127.0.0.1:8080"),
        ("DEFAULT_MAX_TOKENS", "100"),
        ("CACHE_SYSTEM", "true"),
        ("STRUCTURED_OUTPUTS", "prompt"),
    ):
        monkeypatch.setenv(f"ORCHESTRATOR_PROVIDERS__CLAUDE_EU__{name}", value)
    config = instance_config("claude_eu", Settings().all_providers()["claude_eu"])
    assert config == AnthropicConfig(
        name="claude_eu",
        api_key=SecretStr(KEY),
        base_url="http://127.0.0.1:8080",
        timeout_seconds=120.0,
        max_concurrency=256,
        default_max_tokens=100,
        cache_system=True,
        structured_outputs="prompt",
    )
