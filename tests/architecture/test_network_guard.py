"""The guard of the test suite guards."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.conftest import NetworkDenied


def test_a_connection_beyond_this_machine_is_denied() -> None:
    with socket.socket() as outside, pytest.raises(NetworkDenied, match="loopback"):
        outside.connect(("192.0.2.1", 80))


async def test_the_event_loops_connections_are_denied_too() -> None:
    with pytest.raises(NetworkDenied):
        await asyncio.open_connection("192.0.2.1", 80)


def test_names_of_the_world_are_not_looked_up() -> None:
    with pytest.raises(NetworkDenied, match="looked"):
        socket.getaddrinfo("orchestrator.dev", 443)


def test_reserved_names_do_not_resolve() -> None:
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("nowhere.invalid", 443)


def test_loopback_is_open() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername() == server.getsockname()
