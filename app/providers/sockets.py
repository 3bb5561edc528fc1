"""The sockets: a wire over an aiohttp connection pool.

httpx's own pool collapses under concurrency, the client in front of it spends more CPU a call than the
call itself (cookies, redirects, authentication, none of which is wanted here), and even its request and
response objects are a twentieth of a run. So calls go straight to an aiohttp session. Invariants: nothing
is retried, no redirect is followed, no cookie is kept, no proxy or credential is taken from the
environment, and bodies are handed out as they came, undecoded.

The text of every failure is safe to show: it holds no URL, no header and no address. Importing this
module costs some 300 ms, which is why `transport` does it late.
"""

from __future__ import annotations

import errno
import functools
import socket
from collections.abc import AsyncIterator, Mapping

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver, ResolveResult
from multidict import CIMultiDictProxy
from yarl import URL

from app.providers.wire import Answer, failure, not_http
from app.security.egress import CheckedResolver, EgressPolicy

IDLE_SECONDS = 15.0
"""How long an unused connection is kept: less than the servers we know, whose close would race a request."""
NEVER_REPEATED = frozenset({"POST", "PATCH"})
"""Methods that aiohttp itself does not send again."""
AUTOMATIC = ("user-agent", "accept", "accept-encoding", "content-type")
"""Headers that aiohttp adds where they are missing, unless it is told not to."""


class SocketWire:
    """`app.providers.wire.Wire` over pooled connections, as many at once as it is asked for.

    With a policy, only addresses it allows are ever connected to. It binds to the running event loop.
    """

    def __init__(self, policy: EgressPolicy | None = None) -> None:
        self._url = functools.lru_cache(maxsize=256)(_parsed)
        self._session = aiohttp.ClientSession(
            connector=_connector(policy),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            auto_decompress=False,
            trust_env=False,
        )

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, *, who: str
    ) -> Answer:
        """See `Wire`."""
        if not all(map(str.isascii, headers.values())):
            raise not_http(who)
        try:
            answer = await self._session.request(
                method,
                self._url(url),
                headers=headers,
                # Told to skip nothing and what the body is, aiohttp has less to find out.
                skip_auto_headers=None if all(map(headers.__contains__, AUTOMATIC)) else AUTOMATIC,
                data=aiohttp.BytesPayload(content) if content else None,
                allow_redirects=False,
                middlewares=() if method in NEVER_REPEATED else (_once,),
            )
        except httpx.TransportError as error:
            raise failure(error, who) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise failure(_translated(error), who) from error
        return _SocketAnswer(answer, who)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()


class _SocketAnswer(Answer):
    """An answer of aiohttp's."""

    def __init__(self, answer: aiohttp.ClientResponse, who: str) -> None:
        super().__init__(answer.status, _joined(answer.headers), _Body(answer), who)
        self._answer = answer

    def arrived(self) -> bytes | None:
        """See `Answer`."""
        content = self._answer.content
        free = self._answer.connection is None and content.is_eof() and content.exception() is None
        return content.read_nowait() if free and "content-encoding" not in self.headers else None


class _Body(httpx.AsyncByteStream):
    """The raw body. Closing it before its end closes the connection."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translated(error) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._answer.close()


class _PolicyResolver(AbstractResolver):
    """What the connector asks for addresses."""

    def __init__(self, resolver: CheckedResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=found,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, address in await self._resolver.resolve(host, port, family)
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _connector(policy: EgressPolicy | None) -> aiohttp.TCPConnector:
    if policy is None:
        return aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_SECONDS)

    def checked_socket(info: tuple[int, int, int, str, tuple[str | int, ...]]) -> socket.socket:
        # The last word, on the very address: literal addresses never pass the resolver.
        family, kind, proto, _, address = info
        policy.check_address(str(address[0]), host=str(address[0]))
        return socket.socket(family, kind, proto)

    resolver = _PolicyResolver(CheckedResolver(policy))
    return aiohttp.TCPConnector(
        limit=0, keepalive_timeout=IDLE_SECONDS, resolver=resolver, socket_factory=checked_socket
    )


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending an idempotent request again: it does so only on errors of its own kind."""
    try:
        return await send(request)
    except (aiohttp.ClientError, OSError) as error:
        raise _translated(error) from error


def _parsed(url: str) -> URL:
    """The URL as it is written but for its host, whose case means nothing."""
    parsed = URL(url, encoded=True)
    return parsed.with_host(parsed.host.lower()) if parsed.host else parsed


def _joined(headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
    """Headers by lower-case name; repeated ones joined, as RFC 9110 section 5.3 allows."""
    joined: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        if not value.isascii():
            value = _shown(value)  # noqa: PLW2901  the rare case, out of the way of the usual one
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def _shown(value: str) -> str:
    """A value that JSON can carry: aiohttp puts halves of surrogate pairs where bytes are not UTF-8."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _translated(error: Exception) -> httpx.TransportError:  # noqa: PLR0911  a table of cases
    match error:
        case aiohttp.ClientConnectorDNSError():
            return httpx.ConnectError("its name does not resolve")
        case aiohttp.ClientConnectorCertificateError():
            return httpx.ConnectError("its TLS certificate is not trusted")
        case aiohttp.ClientSSLError():
            return httpx.ConnectError("the TLS handshake failed")
        case aiohttp.ClientConnectorError(os_error=ConnectionAbortedError(errno=None)):
            # how asyncio gives a handshake up, after a minute
            return httpx.ConnectError("the TLS handshake took too long; the server may not speak TLS there")
        case aiohttp.ClientConnectorError():
            return httpx.ConnectError(_reason(error.os_error, "it cannot be connected to"))
        case aiohttp.ServerDisconnectedError():
            return httpx.ReadError("it closed the connection without an answer")
        case aiohttp.ClientPayloadError():
            return httpx.ReadError("the answer ended early")
        case aiohttp.ClientConnectionError() | ConnectionError():
            return httpx.ReadError("it broke the connection")
        case aiohttp.ClientResponseError():
            return httpx.RemoteProtocolError("it sent something that is not HTTP")
        case OSError():
            return httpx.ConnectError(_reason(error, "the connection failed"))
        case _:
            return httpx.LocalProtocolError("the URL, the method or a header is not valid HTTP")


def _reason(error: OSError, otherwise: str) -> str:
    return otherwise if error.errno is None else _REASONS.get(error.errno, otherwise)


_REASONS = {
    errno.ECONNREFUSED: "it refused the connection",
    errno.EHOSTUNREACH: "it is not reachable",
    errno.ENETUNREACH: "it is not reachable",
    errno.ETIMEDOUT: "connecting took too long",
}
