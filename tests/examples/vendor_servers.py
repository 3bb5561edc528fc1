"""What stands behind a service while an example of a vendor runs: the fakes of the conformance suites.

A server here is a function from a request to an answer, fit for `httpx.MockTransport`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
import orjson

from tests.conformance.chat_vendors.vendor import ChatVendor, Said
from tests.conformance.embed_vendors.vendor import JSON, EmbedVendor

Server = Callable[[httpx.Request], httpx.Response]
LENGTH: Final = 4
"""Of vectors whose length nobody asks for."""


def chat_server(vendor: ChatVendor, said: Said) -> Server:
    """A vendor whose model always says the same, in one piece or streamed."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        if body.get("stream") or ":streamGenerateContent" in request.url.path:
            return httpx.Response(200, content=b"".join(vendor.frames(said)), headers=vendor.stream_headers)
        return vendor.whole(said)

    return answer


def embed_server(vendor: EmbedVendor) -> Server:
    """A vendor that embeds every text to the same vector."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert vendor.wire is not None
        body = orjson.loads(request.content)
        vector = [1.0] + [0.0] * ((vendor.wire.dimensions(body) or LENGTH) - 1)
        vectors = [vector for _ in vendor.wire.texts(body)]
        return httpx.Response(200, content=orjson.dumps(vendor.wire.answer(body, vectors)), headers=JSON)

    return answer


def by_path(servers: Mapping[str, Server]) -> Server:
    """One server of several, by a part of the path."""

    def answer(request: httpx.Request) -> httpx.Response:
        return next(server for part, server in servers.items() if part in request.url.path)(request)

    return answer


def failing(vendor: ChatVendor, status: int) -> Server:
    """A vendor that is asked too much."""
    return lambda _: vendor.failure(status, "come back later")


def by_host(servers: Mapping[str, Server]) -> Server:
    """One server of several, by the host."""
    return lambda request: servers[request.url.host](request)


class Recorded:
    """A server that keeps what it was asked."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._server(request)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """What was sent, in order."""
        return [orjson.loads(request.content) for request in self.requests if request.content]
