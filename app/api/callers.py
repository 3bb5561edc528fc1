"""Who may call while callers do not authenticate: this machine, unless the operator opens the service.

Two questions a request. Did it arrive on a loopback address? Whoever starts the server decides where it
listens, so the service itself looks. And is it meant for us? A web page whose name is made to resolve to
127.0.0.1 has the browser of someone on this machine call us (DNS rebinding); the browser then sends that
name as `Host`, which is how such a request is known.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from app.api.problems import Refusal, plain_refusal

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_NOT_LOCAL: Final = (
    "this service has no authentication and serves its own machine only; "
    "its operator can open it with ORCHESTRATOR_SERVER__ALLOW_OPEN=true"
)
_NOT_MEANT: Final = (
    "the service is not known by this Host; call it as localhost or 127.0.0.1, or add the name to "
    "ORCHESTRATOR_SERVER__ALLOWED_HOSTS"
)


class Callers:
    """The rule of one service. Names are compared without their port and without regard to case."""

    def __init__(
        self, *, host: str = "127.0.0.1", allowed_hosts: Iterable[str] = (), open: bool = False
    ) -> None:
        """`host` is where the service listens, `open` whether it may be called from other machines.

        An open service is known by any name where other machines reach it, unless `allowed_hosts` lists
        some.
        """
        further = [_as_host(name) for name in allowed_hosts]
        names = (*LOOPBACK_NAMES, _as_host(host), *further)
        self._names = frozenset(name.lower().encode() for name in names)
        self._open = open
        self._listed = bool(further)
        self._any_name = open and not further and not is_loopback(host)

    def refusal(self, server: Sequence[object] | None, host: bytes | None) -> Refusal | None:
        """Why a request may not come in; None if it may.

        `server` is ASGI's: address and port, or the path of a Unix socket and None. `host` is the header.
        """
        local = server is not None and (server[1] is None or is_loopback(str(server[0])))
        if not local and not self._open:
            return plain_refusal(403, _NOT_LOCAL)
        any_name = self._any_name or not (local or self._listed)
        if any_name or self._knows(host or b""):
            return None
        return plain_refusal(421, _NOT_MEANT)

    def _knows(self, host: bytes) -> bool:
        name = host.lower()
        if name in self._names:
            return True
        name, _, port = name.rpartition(b":")
        return port.isdigit() and name in self._names


@lru_cache(maxsize=256)
def is_loopback(address: str) -> bool:
    """Whether only this machine can connect to an address."""
    if address == "localhost":
        return True
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _as_host(name: str) -> str:
    """A name or address as it stands in the header: IPv6 in brackets."""
    return f"[{name}]" if ":" in name else name
