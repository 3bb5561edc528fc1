"""One simulated vendor, and the service in each of its ways, for all acceptance tests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.acceptance.client import Caller
from tests.acceptance.installations import WAYS, Installation, ways
from tests.bench.processes import service_environment
from tests.simulator.process import Simulator, start_simulator


@pytest.fixture(scope="package")
def vendor() -> Iterator[Simulator]:
    """A provider that speaks OpenAI's API; `sim` and `openai` of the service call it."""
    with start_simulator() as simulator:
        yield simulator


@pytest.fixture(scope="package")
def settings(vendor: Simulator) -> Mapping[str, str]:
    """Of the service, however it is started."""
    return {
        "OPENAI_API_KEY": "sk-simulated",
        "OPENAI_BASE_URL": vendor.base_url,
        **service_environment(vendor.url),
        "ORCHESTRATOR_PROVIDERS__SLOW__VENDOR": "echo",
        "ORCHESTRATOR_PROVIDERS__SLOW__LATENCY_MS": "30000",
        "ORCHESTRATOR_ACTIONS__WEBHOOK_URL": f"{vendor.url}/hook",
        "ORCHESTRATOR_EGRESS__ALLOW_PRIVATE": "true",
        "ORCHESTRATOR_WEBHOOKS__RETRY_SECONDS": "0.2",
    }


@pytest.fixture(scope="package", params=ways())
def way(request: pytest.FixtureRequest) -> str:
    """How the service is started: every test that asks for it holds in each way to do so."""
    name: str = request.param
    return name


@pytest.fixture(scope="package")
def installation(
    way: str, vendor: Simulator, settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """The service as an operator starts it, shared by tests."""
    with WAYS[way](tmp_path_factory.mktemp(way), vendor, settings) as started:
        yield started


@pytest.fixture
def caller(installation: Installation, vendor: Simulator) -> Iterator[Caller]:
    """A caller; the vendor has forgotten what other tests did."""
    vendor.reset()
    with Caller(installation.url) as client:
        yield client
