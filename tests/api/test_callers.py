"""Who may call a service without authentication: where from, and under which name."""

from __future__ import annotations

import httpx
import pytest

from app.api.callers import Callers
from tests.api.harness import api, problem

LOCAL = ("127.0.0.1", 8000)
AWAY = ("192.0.2.1", 8000)
ON_ALL = "0.0.0.0"  # noqa: S104  an address that an operator may choose


def status(callers: Callers, server: tuple[str, int | None] | None, host: bytes | None) -> int:
    """200 where a request may come in."""
    refusal = callers.refusal(server, host)
    return refusal.status if refusal else 200


# --- where from ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "server", [AWAY, ("2001:db8::1", 80), ("::ffff:192.0.2.1", 80), ("testserver", 80), None]
)
def test_a_request_from_another_machine_is_refused(server: tuple[str, int | None] | None) -> None:
    assert status(Callers(), server, b"localhost") == 403


@pytest.mark.parametrize(
    "server", [LOCAL, ("127.0.0.2", 80), ("::1", 80), ("::ffff:127.0.0.1", 80), ("/run/service.sock", None)]
)
def test_this_machine_may_call(server: tuple[str, int | None]) -> None:
    assert status(Callers(), server, b"localhost:8000") == 200


def test_an_open_service_may_be_called_from_elsewhere() -> None:
    assert status(Callers(open=True), AWAY, b"192.0.2.1:8000") == 200


# --- under which name ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *(
            None,
            b"",
            b"evil.example",
            b"evil.example:8000",
            b"localhost.evil.example",
            b"localhost:8000.evil",
        ),
        *(
            b"127.0.0.1.evil.example",
            b"localhost:",
            b"localhost:a",
            b"evil@localhost",
            b"localhost, evil.example",
        ),
        *(b"[::1", b"::1", b"0.0.0.0", b"127.0.0.2", b"\xff"),
    ],
)
def test_a_name_that_is_not_ours_is_refused(host: bytes | None) -> None:
    assert status(Callers(), LOCAL, host) == 421


@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:1", b"127.0.0.1", b"127.0.0.1:8000", b"[::1]", b"[::1]:65535"]
)
def test_names_of_loopback_are_ours_on_any_port(host: bytes) -> None:
    assert status(Callers(), LOCAL, host) == 200


def test_the_configured_host_is_ours() -> None:
    assert status(Callers(host="127.0.0.2"), ("127.0.0.2", 80), b"127.0.0.2:80") == 200


@pytest.mark.parametrize("open", [False, True])
def test_listed_names_are_ours(open: bool) -> None:
    callers = Callers(allowed_hosts=["Flows.example", "2001:db8::1"], open=open)
    assert status(callers, LOCAL, b"flows.example:443") == 200
    assert status(callers, LOCAL, b"[2001:db8::1]") == 200
    assert status(callers, LOCAL, b"other.example") == 421


def test_an_open_service_on_loopback_is_still_known_by_its_names_only() -> None:
    assert status(Callers(open=True), LOCAL, b"evil.example") == 421


def test_an_open_service_elsewhere_is_known_by_any_name_unless_some_are_listed() -> None:
    assert status(Callers(host=ON_ALL, open=True), AWAY, b"any.example") == 200
    assert status(Callers(host=ON_ALL, open=True), LOCAL, b"any.example") == 200
    assert status(Callers(host=ON_ALL, open=True, allowed_hosts=["a.example"]), AWAY, b"b.example") == 421


# --- the service --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v1/runs", "/healthz", "/metrics", "/openapi.json", "/nothing"])
async def test_no_route_answers_under_a_name_that_is_not_ours(path: str) -> None:
    async with api() as service:
        answer = await service.client.get(path, headers={"Host": "evil.example"})
    assert "ORCHESTRATOR_SERVER__ALLOWED_HOSTS" in problem(answer, 421, "misdirected_request").detail


async def test_no_route_answers_to_another_machine() -> None:
    async with api() as service:
        transport = httpx.ASGITransport(service.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://192.0.2.1:8000") as client:
            answer = await client.get("/healthz", headers={"Host": "localhost"})
    assert "ORCHESTRATOR_SERVER__ALLOW_OPEN" in problem(answer, 403, "forbidden").detail
