"""The seam between `transport` and the network: one request out, the head of its answer back.

`app.providers.sockets` is the one that talks; `HttpxWire` goes over any `httpx.AsyncBaseTransport`, so
that a test or an embedding program answers with `httpx.MockTransport` or an ASGI application. Both undo
`Content-Encoding` and map failures to our own words, and nothing else: time, size and redirects are the
business of `transport`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

import httpx

from app.ports.errors import CallError, PermanentError, TemporaryError
from app.providers.decoding import UndecodableError, inflater_for


class Answer:
    """An answer whose body is still on the wire. Headers are as `app.ports.http.HttpResponse` has them."""

    def __init__(
        self, status: int, headers: Mapping[str, str], stream: httpx.AsyncByteStream, who: str
    ) -> None:
        self.status = status
        self.headers = headers
        self._stream = stream
        self._who = who

    def arrived(self) -> bytes | None:
        """The body if it is plain and all of it came with the head, as short ones do; else None.

        The connection is free again then, and there is nothing to close.
        """
        return None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The decoded body, piece by piece. Raises `TemporaryError` (connection, server_error)."""
        try:
            inflater = inflater_for(self.headers.get("content-encoding"))
            async for chunk in self._stream:
                for piece in (chunk,) if inflater is None else inflater.feed(chunk):
                    if piece:
                        yield piece
            if inflater is not None:
                inflater.finish()
        except UndecodableError as error:
            raise TemporaryError("server_error", f"{self._who} answered badly: {error}") from error
        except httpx.TransportError as error:
            raise failure(error, self._who) from error

    async def aclose(self) -> None:
        """Let go of the connection; it is closed unless the body was read to its end."""
        await self._stream.aclose()


class Wire(Protocol):
    """Sends requests."""

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, *, who: str
    ) -> Answer:
        """Send and wait for the head of the answer; `who` names the callee in messages.

        Raises `PermanentError` (invalid_request, egress_denied) or `TemporaryError` (connection,
        server_error, timeout).
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...


class HttpxWire:
    """Sends requests over an httpx transport."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        # Parsing a URL costs more than all the rest of building a request.
        self._url = functools.lru_cache(maxsize=256)(httpx.URL)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, *, who: str
    ) -> Answer:
        """See `Wire`."""
        try:
            request = httpx.Request(method, self._url(url), headers=dict(headers), content=content)
        except (httpx.InvalidURL, ValueError) as error:
            raise not_http(who) from error
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise failure(error, who) from error
        if not isinstance(response.stream, httpx.AsyncByteStream):
            raise PermanentError("internal", f"the transport for {who} must answer with an async body")
        return Answer(response.status_code, response.headers, response.stream, who)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()


def failure(error: httpx.TransportError, who: str) -> CallError:
    """What an httpx error means to a caller."""
    match error:
        case httpx.TimeoutException():
            return TemporaryError("timeout", f"{who} did not answer in time")
        case httpx.RemoteProtocolError():
            return TemporaryError("server_error", f"{who} answered badly: {error}")
        case httpx.LocalProtocolError() | httpx.UnsupportedProtocol():
            return not_http(who)
        case _:
            return TemporaryError("connection", f"the connection to {who} failed: {error}")


def not_http(who: str) -> PermanentError:
    """A request that cannot be written as HTTP."""
    return PermanentError(
        "invalid_request", f"the request to {who} is not valid HTTP; check its URL, method and headers"
    )
