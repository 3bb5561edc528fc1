"""A guarded front of a Temporal server for tests: TLS, client certificates and API keys, as a cloud has them.

It passes unary calls on byte for byte. Certificates are made on the spot.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]  # it ships no types
import trustme

NAME: Final = "localhost"
CALL_SECONDS: Final = 70.0
"""Longer than Temporal lets a poll wait."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority whose files are in a folder."""

    folder: Path
    ca: trustme.CA

    @property
    def file(self) -> Path:
        """Its own certificate."""
        path = self.folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def issue(self, name: str, *, days: int = 1) -> tuple[Path, Path]:
        """A certificate for this machine and its key; with negative `days` one that has expired."""
        ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        issued = self.ca.issue_cert(NAME, not_before=ends - dt.timedelta(days=30), not_after=ends)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued.cert_chain_pems[0].write_to_path(str(certificate))
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


def authority(folder: Path) -> Authority:
    """A new one, with a folder of its own."""
    folder.mkdir()
    return Authority(folder, trustme.CA())


class _PassOn(grpc.GenericRpcHandler):  # type: ignore[misc]  # as above
    def __init__(self, channel: Any, api_key: str | None) -> None:
        self._channel = channel
        self._wanted = None if api_key is None else f"Bearer {api_key}"

    def service(self, handler_call_details: Any) -> Any:
        """How a method is handled."""
        method = str(handler_call_details.method)
        given = dict(handler_call_details.invocation_metadata)
        return grpc.unary_unary_rpc_method_handler(self._passing(method, given.get("authorization")))

    def _passing(self, method: str, authorization: str | None) -> Callable[[bytes, Any], Awaitable[bytes]]:
        call = self._channel.unary_unary(method)

        async def passed(request: bytes, context: Any) -> bytes:
            if self._wanted is not None and authorization != self._wanted:
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Request unauthorized.")
            try:
                answer: bytes = await call(request, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())
            return answer

        return passed


@asynccontextmanager
async def guarded_front(
    backend: str,
    certificate: tuple[Path, Path],
    *,
    clients: Authority | None = None,
    api_key: str | None = None,
) -> AsyncIterator[str]:
    """The address of a front before `backend`. With `clients` it demands a certificate of that authority."""
    chain, key = (path.read_bytes() for path in certificate)
    credentials = grpc.ssl_server_credentials(
        [(key, chain)],
        root_certificates=None if clients is None else clients.file.read_bytes(),
        require_client_auth=clients is not None,
    )
    async with grpc.aio.insecure_channel(backend) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_PassOn(channel, api_key),))
        port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        try:
            yield f"{NAME}:{port}"
        finally:
            await server.stop(None)
