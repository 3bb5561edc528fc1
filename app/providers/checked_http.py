"""HTTP on behalf of documents: every address and every hop is checked, nothing leaks across origins.

A redirect is followed five times at most. Towards another origin only headers that cannot hold a
secret go along, because authors put keys into headers of any name; and https never becomes http.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urljoin, urlsplit

from app.ports.errors import PermanentError, TemporaryError
from app.ports.http import HttpRequest, HttpResponse
from app.providers.decoding import ACCEPT_ENCODING
from app.providers.json_api import USER_AGENT
from app.providers.transport import Call, Transport
from app.security.egress import EgressPolicy

MAX_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
KEEPS_METHOD: Final = frozenset({307, 308})
HARMLESS: Final = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""Headers that are sent on to another origin."""
OWNED: Final = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "proxy-authorization"}
    | {"proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that this client sets itself or never sends."""

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
DEFAULT_PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


class CheckedHttp:
    """`app.ports.http.HttpClient` under an egress policy.

    `guarded` must enforce the same policy when it connects.
    """

    def __init__(self, guarded: Transport, policy: EgressPolicy) -> None:
        self._guarded = guarded
        self._policy = policy

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send and read the whole answer; the timeout covers every hop together."""
        deadline = asyncio.get_running_loop().time() + request.timeout_seconds
        method, url, content = request.method.upper(), request.url, request.content
        headers = _checked(method, request.headers)
        for _ in range(MAX_REDIRECTS + 1):
            self._policy.check_url(url)
            answer = await self._guarded.exchange(
                _call(request, method, url, headers=headers, content=content, deadline=deadline)
            )
            location = answer.headers.get("location")
            if answer.status not in REDIRECTS or not location:
                return answer
            there = _target(url, location)
            if origin(there) != origin(url):
                headers = {name: value for name, value in headers.items() if name in HARMLESS}
            if answer.status not in KEEPS_METHOD and method != "HEAD":
                method, content = "GET", None
                headers.pop("content-type", None)
            url = there
        raise PermanentError(
            "invalid_request", f"host {_host(request.url)!r} redirects more than {MAX_REDIRECTS} times"
        )


class OperatorHttp:
    """`app.ports.http.HttpClient` for addresses the operator vouches for: no policy, no redirect."""

    def __init__(self, trusted: Transport) -> None:
        self._trusted = trusted

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send and read the whole answer."""
        deadline = asyncio.get_running_loop().time() + request.timeout_seconds
        method = request.method.upper()
        headers = _checked(method, request.headers)
        return await self._trusted.exchange(
            _call(request, method, request.url, headers=headers, content=request.content, deadline=deadline)
        )


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0)


def _call(
    request: HttpRequest,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None,
    deadline: float,
) -> Call:
    left = deadline - asyncio.get_running_loop().time()
    who = f"host {_host(url)!r}"
    if left <= 0:
        raise TemporaryError("timeout", f"{who} did not answer within {request.timeout_seconds:g} s")
    return Call(
        method=method,
        url=url,
        who=who,
        timeout_seconds=left,
        headers={"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": ACCEPT_ENCODING, **headers},
        content=content,
        max_bytes=request.max_response_bytes,
    )


def _checked(method: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by lower-case name, fit to be sent."""
    if not _TOKEN.fullmatch(method):
        raise PermanentError("invalid_request", f"{method[:20]!r} is not an HTTP method")
    checked: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            raise PermanentError("invalid_request", f"{name[:60]!r} is not a header name")
        if lower in OWNED:
            raise PermanentError("invalid_request", f"the header {lower!r} is set by the service; remove it")
        if not _FIELD_VALUE.fullmatch(value):
            raise PermanentError(
                "invalid_request", f"the value of header {lower!r} must be one line of ASCII text"
            )
        checked[lower] = value
    return checked


def _target(url: str, location: str) -> str:
    try:
        there = urljoin(url, location)
        scheme = urlsplit(there).scheme
    except ValueError:
        raise PermanentError(
            "invalid_request", f"host {_host(url)!r} redirects to something that is no URL"
        ) from None
    if scheme == "http" and urlsplit(url).scheme == "https":
        raise PermanentError("egress_denied", f"host {_host(url)!r} redirects from https to http")
    return there


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
