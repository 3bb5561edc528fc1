"""The egress policy: what a document may reach."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.security.egress import (
    HOSTS_SETTING,
    PRIVATE_SETTING,
    CheckedResolver,
    EgressPolicy,
    Reach,
    classify,
)
from app.settings_table import settings_rows

METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
PRIVATE = ("127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1")
PRIVATE_V6 = ("::1", "fc00::1", "fd12:3456::1")
FORBIDDEN = ("0.0.0.0", "0.1.2.3", "169.254.0.1", "224.0.0.1", "255.255.255.255", "198.18.0.1")  # noqa: S104  nothing binds to it
FORBIDDEN_V6 = (
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "fec0::1",
    "2001:db8::1",
    "2001::1",
    "64:ff9b:1::1",
)
PUBLIC = ("8.8.8.8", "172.32.0.1", "100.128.0.1", "192.167.1.1", "2606:4700::1111", "2a00:1450::1")


def carriers(address: str) -> list[str]:
    """The IPv6 forms that carry an IPv4 address."""
    number = int(ipaddress.IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    return [
        f"::ffff:{address}",
        f"::ffff:0:{high:x}:{low:x}",
        f"64:ff9b::{high:x}:{low:x}",
        f"2002:{high:x}:{low:x}::1",
        f"::{high:x}:{low:x}",
    ]


@pytest.mark.parametrize("address", [*METADATA, *FORBIDDEN, *FORBIDDEN_V6])
def test_no_setting_opens_metadata_link_local_or_reserved_addresses(address: str) -> None:
    assert classify(address) is Reach.FORBIDDEN
    with pytest.raises(PermanentError, match="inside the network"):
        EgressPolicy(allow_private=True).check_address(address, host="h")


@pytest.mark.parametrize("name", ["localhost", "LocalHost.", "api.localhost"])
def test_names_that_always_mean_this_machine_are_private_without_a_look_up(name: str) -> None:
    with pytest.raises(PermanentError, match="inside the network"):
        EgressPolicy().check_url(f"http://{name}:8080/x")
    EgressPolicy(allow_private=True).check_url(f"http://{name}:8080/x")


@pytest.mark.parametrize("address", [*PRIVATE, *PRIVATE_V6])
def test_private_addresses_need_the_operators_leave(address: str) -> None:
    assert classify(address) is Reach.PRIVATE
    with pytest.raises(PermanentError) as refused:
        EgressPolicy().check_address(address, host="intranet.example")
    assert refused.value.error_class == "egress_denied"
    assert "'intranet.example'" in str(refused.value)
    assert "ORCHESTRATOR_EGRESS__ALLOW_PRIVATE=true" in str(refused.value)
    EgressPolicy(allow_private=True).check_address(address, host="intranet.example")


@pytest.mark.parametrize("address", [*PRIVATE, *FORBIDDEN[2:], "169.254.169.254"])
def test_an_ipv4_address_is_judged_alike_in_every_ipv6_form(address: str) -> None:
    assert {classify(form) for form in carriers(address)} == {classify(address)}


@pytest.mark.parametrize("text", ["", "localhost", "256.1.1.1", "/run/docker.sock", "1.2.3", "0x7f000001"])
def test_what_is_no_address_is_forbidden(text: str) -> None:
    assert classify(text) is Reach.FORBIDDEN


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_open(address: str) -> None:
    assert classify(address) is Reach.PUBLIC
    EgressPolicy().check_address(address, host="h")


@given(st.ip_addresses())
def test_nothing_public_is_private_to_the_standard_library(address: Any) -> None:
    if classify(address) is Reach.PUBLIC and getattr(address, "sixtofour", None) is None:
        assert not address.is_loopback
        assert not address.is_link_local
        assert not address.is_multicast
        assert not address.is_unspecified


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://[::1]:8080/x",
        "http://[::ffff:169.254.169.254]/latest/meta-data",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/",
        "http://0.0.0.0:8000/",
    ],
)
def test_literal_addresses_inside_are_denied(url: str) -> None:
    with pytest.raises(PermanentError) as refused:
        EgressPolicy().check_url(url)
    assert refused.value.error_class == "egress_denied"


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "unix:///run/x.sock", "gopher://h/", "ftp://h/", "h/path"]
)
def test_other_schemes_are_denied(url: str) -> None:
    with pytest.raises(PermanentError, match="scheme"):
        EgressPolicy().check_url(url)


def test_plain_http_can_be_closed() -> None:
    with pytest.raises(PermanentError, match="use one of: https"):
        EgressPolicy(allowed_schemes=frozenset({"https"})).check_url("http://api.example.com/")


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///path",
        "http://user:secret@api.example.com/",
        "http://api.example.com:99999/",
        "http://api.example.com\\@127.0.0.1/",
        "http://api.example.com/a b",
        "http://api.example.com/\r\nHost: x",
        "http://[::1",
    ],
)
def test_malformed_and_credentialed_urls_are_refused_without_quoting_them(url: str) -> None:
    with pytest.raises(PermanentError) as refused:
        EgressPolicy().check_url(url)
    assert refused.value.error_class == "invalid_request"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "host", ["evil.example", "api.example.com.evil.test", "example.com", "notexample.com"]
)
def test_hosts_off_the_list_are_denied(host: str) -> None:
    policy = EgressPolicy(allowed_hosts=("*.example.com", "db.internal.test"))
    with pytest.raises(PermanentError, match="list of allowed hosts") as refused:
        policy.check_url(f"https://{host}/")
    assert repr(host) in str(refused.value)
    assert "ORCHESTRATOR_EGRESS__ALLOWED_HOSTS" in str(refused.value)


def test_the_settings_that_a_refusal_names_exist() -> None:
    variables = {name for name, _, _ in settings_rows()}
    assert {HOSTS_SETTING, PRIVATE_SETTING} <= variables


@pytest.mark.parametrize(
    "host", ["api.example.com", "A.B.Example.COM", "db.internal.test", "db.internal.test."]
)
def test_hosts_on_the_list_are_allowed(host: str) -> None:
    EgressPolicy(allowed_hosts=("*.example.com", "db.internal.test")).check_url(f"https://{host}/")


def test_being_listed_does_not_make_an_address_public() -> None:
    with pytest.raises(PermanentError, match="inside the network"):
        EgressPolicy(allowed_hosts=("127.0.0.1",)).check_url("http://127.0.0.1/")


async def test_a_name_that_resolves_inside_is_denied() -> None:
    with pytest.raises(PermanentError, match="'localhost'"):
        await CheckedResolver(EgressPolicy()).resolve("localhost", 80)


async def test_a_name_is_denied_when_any_of_its_addresses_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*args: Any, **options: Any) -> Any:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 80)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(PermanentError, match="inside the network"):
        await CheckedResolver(EgressPolicy()).resolve("rebinding.example", 80)


async def test_a_name_that_does_not_resolve_is_an_os_error() -> None:
    with pytest.raises(OSError, match="not known"):
        await CheckedResolver(EgressPolicy()).resolve("nowhere.invalid", 80)


async def test_what_was_checked_is_what_is_handed_out() -> None:
    found = await CheckedResolver(EgressPolicy(allow_private=True)).resolve("localhost", 80, socket.AF_INET)
    assert found == [(socket.AF_INET, "127.0.0.1")]
