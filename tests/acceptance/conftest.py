"""One service and one simulated vendor for the acceptance tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.client import Caller
from tests.service_process import ServiceProcess, running_service
from tests.simulator.process import Simulator, start_simulator


@pytest.fixture(scope="package")
def vendor() -> Iterator[Simulator]:
    """A provider that speaks OpenAI's API; `sim` and `openai` of the service call it."""
    with start_simulator() as simulator:
        yield simulator


@pytest.fixture(scope="package")
def service(vendor: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """The service as an operator starts it."""
    environment = {
        "OPENAI_API_KEY": "sk-simulated",
        "OPENAI_BASE_URL": vendor.base_url,
        "ORCHESTRATOR_PROVIDERS__SIM__BASE_URL": vendor.base_url,
        "ORCHESTRATOR_PROVIDERS__SLOW__VENDOR": "echo",
        "ORCHESTRATOR_PROVIDERS__SLOW__LATENCY_MS": "30000",
        "ORCHESTRATOR_ACTIONS__WEBHOOK_URL": f"{vendor.url}/hook",
        "ORCHESTRATOR_EGRESS__ALLOW_PRIVATE": "true",
    }
    data = tmp_path_factory.mktemp("acceptance") / "data"
    with running_service(data, environment=environment) as process:
        yield process


@pytest.fixture
def caller(service: ServiceProcess, vendor: Simulator) -> Iterator[Caller]:
    """A caller; the vendor has forgotten what other tests did."""
    vendor.reset()
    with Caller(service.url) as client:
        yield client
