"""What holds for every test: no network beyond this machine, and a reproducible Hypothesis.

Tests import `require_or_skip` from here for what a machine may lack.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

RESERVED_DOMAINS = (".invalid", ".test", ".example", "example.com", "example.org", "example.net")
"""Names that never resolve here, as RFC 2606 has it: tests of failures use them."""

settings.register_profile(
    "ci", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("ORCHESTRATOR_REQUIRE_ALL") == "1" else "dev")


class NetworkDenied(RuntimeError):
    """A test tried to leave this machine. It is no OSError, so that no code under test takes it for one."""


def require_or_skip(reason: str, hint: str) -> NoReturn:
    """Skip for want of something, or fail where everything must be there (ORCHESTRATOR_REQUIRE_ALL=1)."""
    if os.environ.get("ORCHESTRATOR_REQUIRE_ALL") == "1":
        pytest.fail(f"{reason}; {hint}", pytrace=False)
    pytest.skip(f"{reason}; {hint}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that measure on one worker, so that they do not measure one another; mark what needs a
    PostgreSQL server."""
    for item in items:
        if item.get_closest_marker("quiet"):
            item.add_marker(pytest.mark.xdist_group("quiet"))
        if "postgresql" in item.nodeid:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """Let sockets connect to loopback addresses and unix sockets only, and look no other name up."""
    patch = pytest.MonkeyPatch()
    for method in ("connect", "connect_ex"):
        patch.setattr(socket.socket, method, _guarded(getattr(socket.socket, method)))
    look_up = socket.getaddrinfo

    def guarded_look_up(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not _is_numeric(name) and name != "localhost":
            if name.endswith(RESERVED_DOMAINS):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            raise NetworkDenied(f"a test looked {name!r} up: use a loopback server or a mock transport")
        return look_up(host, *args, **options)

    patch.setattr(socket, "getaddrinfo", guarded_look_up)
    yield
    patch.undo()


def _guarded(method: Any) -> Any:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(address[0]):
            raise NetworkDenied(f"a test connected to {address!r}: use a loopback server or a mock transport")
        return method(self, address)

    return connect


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or host.startswith("127.")


def _is_numeric(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False
