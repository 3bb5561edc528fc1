"""What settings become in the parts they are for."""

from __future__ import annotations

import pytest

from app.bootstrap import _instance_config, build, redactor
from app.providers.openai import OpenAIConfig
from app.settings import Settings

KEY = "gateway-canary-5a1f"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings as an operator's environment gives them."""
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__BASE_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__HEADERS", f'{{"X-Gateway-Key": "{KEY}"}}')
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__EMBEDDING_FORMAT", "float")
    monkeypatch.setenv("ORCHESTRATOR_VECTORS__CACHE_MIB", "3")
    return Settings()


def test_headers_of_an_instance_are_secrets(settings: Settings) -> None:
    assert KEY not in repr(settings)
    assert KEY not in redactor(settings).text(f"the server said {KEY}")


def test_headers_and_embedding_format_reach_the_adapter(settings: Settings) -> None:
    config = _instance_config("vllm", settings.providers["vllm"])
    assert isinstance(config, OpenAIConfig)
    assert config.embedding_format == "float"
    ((name, value),) = config.headers.items()
    assert name == "X-Gateway-Key"
    assert not isinstance(value, str)
    assert value.get_secret_value() == KEY


def test_the_bound_of_the_vector_cache_reaches_the_store(settings: Settings) -> None:
    assert build(settings).vectors._cache_bytes == 3 * 2**20
