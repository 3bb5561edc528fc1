"""Where the service may connect on behalf of a document: the policy, and the look-up that obeys it.

A URL that came out of a workflow document can name anything the machine reaches: its own loopback, the
cluster's network, the cloud's metadata service. The policy decides by address, not by name, and the
address that was checked is the one connected to, so that a name which resolves differently the second
time (DNS rebinding) gains nothing. A name is refused when any of its addresses is.

Address blocks: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890), kept here as tables
because the answers of `ipaddress` differ between patch releases. IPv6 forms that carry an IPv4 address
(mapped, compatible, NAT64, 6to4) are judged by the address they carry.

Sending, redirects and the base URLs that the operator configured do not belong here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import SplitResult, urlsplit

from app.ports.errors import PermanentError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Reach(Enum):
    """How far an address is."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Loopback, private networks, carrier-grade NAT: allowed only by the operator."""
    FORBIDDEN = "forbidden"
    """Metadata services, link-local, multicast, unspecified, reserved: never allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressPolicy:
    """What a document may reach.

    `allowed_hosts` holds names (`api.example.com`) and patterns (`*.example.com`, which means the names
    below it); empty allows every host. Being listed does not make a private address public.
    """

    allow_private: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_schemes: frozenset[str] = frozenset({"https", "http"})

    def check_url(self, url: str) -> None:
        """Raise `PermanentError` of class egress_denied, or invalid_request for what is no http URL.

        Names are not looked up: `check_address` judges what they resolve to.
        """
        parts = _split(url)
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in self.allowed_schemes:
            allowed = ", ".join(sorted(self.allowed_schemes))
            raise _denied(f"the scheme {parts.scheme!r} is not allowed; use one of: {allowed}")
        if not host:
            raise PermanentError("invalid_request", "the URL names no host; write https://host/path")
        if parts.username is not None or parts.password is not None:
            raise PermanentError(
                "invalid_request", f"the URL of host {host!r} holds credentials; send them in a header"
            )
        if self.allowed_hosts and not any(_matches(host, pattern) for pattern in self.allowed_hosts):
            raise _denied(
                f"host {host!r} is not on the list of allowed hosts; an operator adds it to {HOSTS_SETTING}"
            )
        literal = _literal(host)
        if literal is not None:
            self.check_address(literal, host=host)
        elif f".{host.lower()}".endswith(".localhost"):  # a name that needs no look-up (RFC 6761)
            self.check_address(LOOPBACK, host=host)
        elif NUMERIC.fullmatch(host.rpartition(".")[2]):
            raise PermanentError(
                "invalid_request", f"{host!r} is an unusual way to write an address; write it as 192.0.2.1"
            )

    def check_address(self, address: str | Address, *, host: str) -> None:
        """Raise `PermanentError` of class egress_denied unless `host` may be reached at this address."""
        reach = classify(address)
        if reach is Reach.FORBIDDEN:
            raise _denied(
                f"host {host!r} leads to an address inside the network that nobody may reach from here "
                "(metadata, link-local or reserved)"
            )
        if reach is Reach.PRIVATE and not self.allow_private:
            raise _denied(
                f"host {host!r} leads to an address inside the network, which is not allowed; an operator "
                f"allows loopback and private networks with {PRIVATE_SETTING}=true"
            )


class CheckedResolver:
    """Looks names up once and hands out nothing that the policy forbids."""

    def __init__(self, policy: EgressPolicy) -> None:
        self._policy = policy

    async def resolve(self, host: str, port: int, family: int = socket.AF_UNSPEC) -> list[tuple[int, str]]:
        """`(family, address)` pairs of a name, in the system's order.

        Raises `OSError` when there are none and `PermanentError` (egress_denied) when one is forbidden.
        """
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        found = [(int(info[0]), str(info[4][0])) for info in infos]
        for _, address in found:
            self._policy.check_address(address, host=host)
        return found


def classify(address: str | Address) -> Reach:
    """How far an address is; text that is no address is forbidden."""
    if isinstance(address, str):
        try:
            address = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return Reach.FORBIDDEN
    if isinstance(address, ipaddress.IPv6Address):
        carried = _carried_ipv4(address)
        if carried is None:
            return _classify_ipv6(address)
        address = carried
    return _classify_ipv4(address)


def _classify_ipv4(address: ipaddress.IPv4Address) -> Reach:
    if address in METADATA or any(address in net for net in FORBIDDEN_V4):
        return Reach.FORBIDDEN
    return Reach.PRIVATE if any(address in net for net in PRIVATE_V4) else Reach.PUBLIC


def _classify_ipv6(address: ipaddress.IPv6Address) -> Reach:
    if address in METADATA:
        return Reach.FORBIDDEN
    if address == LOOPBACK_V6 or address in UNIQUE_LOCAL_V6:
        return Reach.PRIVATE
    if address not in GLOBAL_UNICAST_V6 or any(address in net for net in FORBIDDEN_V6):
        return Reach.FORBIDDEN
    return Reach.PUBLIC


def _carried_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in SIX_TO_FOUR:
        return ipaddress.IPv4Address((int(address) >> 80) & 0xFFFFFFFF)
    if any(address in net for net in LAST_32_BITS) and int(address) > 1:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _split(url: str) -> SplitResult:
    # What one URL parser drops and another keeps is how a checked host and a connected host come apart.
    if UNSAFE.search(url):
        raise PermanentError(
            "invalid_request", "the URL holds a space, a control character or a backslash; encode it"
        )
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise PermanentError("invalid_request", "the URL is malformed; write https://host/path") from None
    return parts


def _matches(host: str, pattern: str) -> bool:
    host, pattern = host.lower(), pattern.lower().rstrip(".")
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _denied(message: str) -> PermanentError:
    return PermanentError("egress_denied", message)


def _networks_v4(*blocks: str) -> tuple[ipaddress.IPv4Network, ...]:
    return tuple(ipaddress.IPv4Network(block) for block in blocks)


def _networks_v6(*blocks: str) -> tuple[ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.IPv6Network(block) for block in blocks)


HOSTS_SETTING: Final = "ORCHESTRATOR_EGRESS__ALLOWED_HOSTS"
PRIVATE_SETTING: Final = "ORCHESTRATOR_EGRESS__ALLOW_PRIVATE"
NUMERIC: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"""The last label of what resolvers take for an IPv4 address (WHATWG URL, section 3.5)."""
UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
PRIVATE_V4: Final = _networks_v4(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"
)
FORBIDDEN_V4: Final = _networks_v4(
    "0.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
LOOPBACK: Final = "127.0.0.1"
LOOPBACK_V6: Final = ipaddress.IPv6Address("::1")
UNIQUE_LOCAL_V6: Final = ipaddress.IPv6Network("fc00::/7")
GLOBAL_UNICAST_V6: Final = ipaddress.IPv6Network("2000::/3")
FORBIDDEN_V6: Final = _networks_v6(
    "2001::/23",  # Teredo, ORCHID and other protocol assignments
    "2001:db8::/32",
    "2620:4f:8000::/48",
    "3fff::/20",
)
SIX_TO_FOUR: Final = ipaddress.IPv6Network("2002::/16")
LAST_32_BITS: Final = _networks_v6("::ffff:0:0/96", "::ffff:0:0:0/96", "::/96", "64:ff9b::/96")
METADATA: Final[frozenset[Address]] = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, GCP, OpenStack and others
        "169.254.170.2",  # AWS container credentials
        "fd00:ec2::254",  # AWS over IPv6
        "fd20:ce::254",  # GCP over IPv6
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure's host agent
        "192.0.0.192",  # Oracle Cloud
    )
)
"""Addresses at which clouds hand out the machine's own credentials."""
