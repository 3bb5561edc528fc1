"""Limits and breakers as an operator's environment sets them, up to the built service."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.bootstrap import build
from app.configuration import breaker_policy
from app.ports.provider_status import Bounds
from app.providers.breaker import BreakerPolicy
from app.settings import Settings


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [("FAILURE_RATIO", "0"), ("FAILURE_RATIO", "1.1"), ("MIN_CALLS", "0"), ("OPEN_SECONDS", "-1")],
)
def test_breakers_that_cannot_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ORCHESTRATOR_BREAKER__{name}", value)
    with pytest.raises(ValidationError):
        Settings()


def test_breakers_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert breaker_policy(Settings()) == BreakerPolicy()
    monkeypatch.setenv("ORCHESTRATOR_BREAKER__ENABLED", "false")
    assert breaker_policy(Settings()) is None


def test_limits_of_instances_models_and_databases_reach_what_guards_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__BASE_URL", "http://127.0.0.1:8001/v1")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__MAX_CONCURRENCY", "7")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__REQUESTS_PER_MINUTE", "600")
    monkeypatch.setenv("ORCHESTRATOR_PROVIDERS__VLLM__MODELS", '{"big": {"tokens_per_minute": 1000}}')
    monkeypatch.setenv("ORCHESTRATOR_DATABASES__MAIN__VENDOR", "qdrant")
    monkeypatch.setenv("ORCHESTRATOR_DATABASES__MAIN__MAX_CONCURRENCY", "3")
    service = build(Settings())
    vllm = next(it for it in service.providers.instances if it.name == "vllm")
    assert vllm.vendor == "openai"
    assert vllm.guard is not None
    assert vllm.guard.bounds == Bounds(max_concurrency=7, requests_per_minute=600)
    (big,) = vllm.guard.status()
    assert (big.name, big.bounds) == ("big", Bounds(tokens_per_minute=1000))
    assert big.breaker is not None
    overview = service.api.providers.overview()
    assert {it.status.name: it.status.vendor for it in overview.models}["local"] == "local"
    assert [(it.name, it.vendor, it.bounds.max_concurrency) for it in overview.databases] == [
        ("embedded", "embedded", None),
        ("main", "qdrant", 3),
    ]
