"""The one place that talks HTTP: deadlines, size caps and the life of the connection pool.

Promises of every call: the deadline covers connecting, sending and reading together; no more than
`max_bytes` of decoded body are held; nothing is retried; cancelling closes the socket; an error names
who was called and never a credential. Statuses are answers here; what they mean is the adapter's to say.

The HTTP libraries cost a third of a second to import, so they are loaded at the first call or by
`warm()`, in a thread, and not when the service starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import field
from importlib import import_module
from typing import TYPE_CHECKING

from app.ports.deadline import Deadline
from app.ports.errors import CallError, PermanentError, TemporaryError
from app.ports.http import HttpResponse
from app.ports.records import record
from app.security.egress import EgressPolicy

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    import httpx

    from app.providers.wire import Answer, Wire

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Cap on a decoded answer where the caller sets none: the largest embedding batches stay below it."""
DRAIN_SECONDS = 0.1
"""How long the end of a whole answer is waited for."""


@record
class Call:
    """One request. `who` names the callee in messages: an instance or a host."""

    method: str
    url: str
    who: str
    timeout_seconds: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    max_bytes: int = MAX_ANSWER_BYTES


class StreamedAnswer:
    """An answer read as it arrives, under the deadline and the cap of its call."""

    def __init__(self, answer: Answer, call: Call, loop: AbstractEventLoop, deadline: float) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self._source = answer.chunks()
        self._call = call
        self._loop = loop
        self._deadline = deadline
        self._size = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Decoded pieces. Raises `TemporaryError` (connection, timeout) or `PermanentError` (too_large)."""
        while chunk := await self._next(self._deadline):
            yield chunk

    async def read(self) -> bytes:
        """All that is left of the body."""
        return b"".join([chunk async for chunk in self.chunks()])

    async def drain(self) -> None:
        """Wait a moment for the end of a body that is whole already: its connection can be used again."""
        until = min(self._deadline, self._loop.time() + DRAIN_SECONDS)
        with suppress(CallError):
            while await self._next(until):
                pass

    async def aclose(self) -> None:
        """Stop reading."""
        await self._source.aclose()

    async def _next(self, until: float) -> bytes:
        """The next piece, empty at the end. Timed piece by piece: the consumer's time is its own."""
        try:
            with Deadline(self._loop, until):
                chunk = await anext(self._source, b"")
        except TimeoutError:
            raise _timed_out(self._call) from None
        self._size += len(chunk)
        if self._size > self._call.max_bytes:
            raise _too_large(self._call)
        return chunk


class Transport:
    """Sends calls over one wire, opened when it is first needed in the running loop."""

    def __init__(self, open_wire: Callable[[], Wire]) -> None:
        self._open_wire = open_wire
        self._open: tuple[Wire, AbstractEventLoop] | None = None
        """The wire, and the loop in which it was opened."""

    @classmethod
    def over_httpx(cls, transport: httpx.AsyncBaseTransport) -> Transport:
        """Over any httpx transport, such as `httpx.MockTransport`."""

        def open_wire() -> Wire:
            from app.providers.wire import HttpxWire  # noqa: PLC0415  heavy: see the module docstring

            return HttpxWire(transport)

        return cls(open_wire)

    @classmethod
    def over_sockets(cls, policy: EgressPolicy | None = None) -> Transport:
        """Real connections. With a policy, only addresses that it allows are connected to."""

        def open_wire() -> Wire:
            from app.providers.sockets import SocketWire  # noqa: PLC0415  heavy: see the module docstring

            return SocketWire(policy)

        return cls(open_wire)

    async def warm(self) -> None:
        """Load the HTTP libraries without blocking the loop, and open the pool."""
        await asyncio.to_thread(import_module, "app.providers.sockets")
        if self._open is None:
            self._opened()

    async def exchange(self, call: Call) -> HttpResponse:
        """Send and read the whole answer, whatever its status.

        Raises `PermanentError` (too_large, invalid_request, egress_denied) or `TemporaryError`
        (connection, timeout, server_error).
        """
        wire, loop = self._open or self._opened()
        try:
            with Deadline(loop, loop.time() + call.timeout_seconds):
                answer = await wire.send(call.method, call.url, call.headers, call.content, who=call.who)
                content = answer.arrived()
                if content is None:
                    content = await _read(answer, call)
                elif len(content) > call.max_bytes:
                    raise _too_large(call)
        except TimeoutError:
            raise _timed_out(call) from None
        return HttpResponse(status=answer.status, headers=answer.headers, content=content)

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[StreamedAnswer]:
        """The answer as soon as its head is there; leaving the context closes what was not read.

        Raises as `exchange` does.
        """
        wire, loop = self._open or self._opened()
        deadline = loop.time() + call.timeout_seconds
        try:
            with Deadline(loop, deadline):
                answer = await wire.send(call.method, call.url, call.headers, call.content, who=call.who)
        except TimeoutError:
            raise _timed_out(call) from None
        streamed = StreamedAnswer(answer, call, loop, deadline)
        try:
            yield streamed
        finally:
            await streamed.aclose()
            await answer.aclose()

    async def aclose(self) -> None:
        """Close every connection; a later call opens new ones."""
        opened, self._open = self._open, None
        if opened is not None:
            await opened[0].aclose()

    def _opened(self) -> tuple[Wire, AbstractEventLoop]:
        self._open = self._open_wire(), asyncio.get_running_loop()
        return self._open


async def _read(answer: Answer, call: Call) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async with aclosing(answer), aclosing(answer.chunks()) as source:
        async for chunk in source:
            size += len(chunk)
            if size > call.max_bytes:
                raise _too_large(call)
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _timed_out(call: Call) -> TemporaryError:
    return TemporaryError("timeout", f"{call.who} did not answer within {call.timeout_seconds:g} s")


def _too_large(call: Call) -> PermanentError:
    return PermanentError("too_large", f"the answer of {call.who} is larger than {call.max_bytes} bytes")
