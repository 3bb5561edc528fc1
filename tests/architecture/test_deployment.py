"""What is shipped for containers starts the service as it is meant to be reached."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from app.api.callers import Callers
from app.settings import Settings
from tests.architecture.tree import ROOT

ANYWHERE = ("0.0.0.0", 8000)  # noqa: S104  how a container sees a published port


def composed() -> dict[str, Any]:
    """The one service of the compose file."""
    service: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][
        "orchestrator"
    ]
    return service


@pytest.fixture
def callers(monkeypatch: pytest.MonkeyPatch) -> Callers:
    """Who may call the composed service."""
    service = composed()
    for name, value in service["environment"].items():
        monkeypatch.setenv(name, value)
    host = service["command"][service["command"].index("--host") + 1]
    server = Settings(server={"host": host}).server
    return Callers(host=server.host, allowed_hosts=server.allowed_hosts, open=server.allow_open)


def test_the_composed_service_is_published_on_loopback_only() -> None:
    assert all(port.startswith("127.0.0.1:") for port in composed()["ports"])


@pytest.mark.parametrize("name", ["evil.example", "evil.example:8000", "orchestrator", ""])
def test_a_page_that_rebinds_its_name_does_not_reach_the_composed_service(
    callers: Callers, name: str
) -> None:
    refusal = callers.refusal(ANYWHERE, name.encode())
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize("name", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000"])
def test_this_machine_and_the_health_check_reach_the_composed_service(callers: Callers, name: str) -> None:
    assert callers.refusal(ANYWHERE, name.encode()) is None
