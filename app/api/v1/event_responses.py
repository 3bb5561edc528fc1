"""Event streams as responses: server-sent events or NDJSON lines, as slow as their reader.

Each chunk is awaited until the server has taken it, and nothing is produced meanwhile; a reader that takes
nothing for `StreamLimits.stall_seconds` is dropped, and can resume by its last event id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.negotiation import EVENT_STREAM, StreamType
from app.api.v1.rendering import render_event
from app.services.event_stream import EventStream, Heartbeat
from app.services.run_events import RunEvent

log = structlog.get_logger(__name__)

RETRY_MILLISECONDS: Final = 2000
"""How long a browser waits before it connects again."""
HEADERS: Final[Mapping[str, str]] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Of every stream."""

    heartbeat_seconds: float = 15.0
    stall_seconds: float = 30.0


class EventResponse(Response):
    """Streams a run's events until their end, or until the caller goes away."""

    def __init__(
        self,
        stream: EventStream,
        *,
        media_type: StreamType,
        types: frozenset[str],
        limits: StreamLimits,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(HEADERS)
        self._stream = stream
        self._types = types
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pump until either side ends."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pump = asyncio.ensure_future(self._pump(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({pump, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pump.cancel()
            leaving.cancel()
            results = await asyncio.gather(pump, leaving, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def _pump(self, send: Send) -> None:
        try:
            async with aclosing(self._chunks()) as chunks:
                async for chunk in chunks:
                    await self._sent(send, chunk, more=True)
            await self._sent(send, b"", more=False)
        except TimeoutError:
            log.info("events.reader_dropped", seconds=self._limits.stall_seconds)

    async def _sent(self, send: Send, chunk: bytes, *, more: bool) -> None:
        async with asyncio.timeout(self._limits.stall_seconds):
            await send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        as_sse = self.media_type == EVENT_STREAM
        if as_sse:
            yield b"retry: %d\n\n" % RETRY_MILLISECONDS
        async with aclosing(self._stream.items(heartbeat_seconds=self._limits.heartbeat_seconds)) as items:
            async for item in items:
                if isinstance(item, Heartbeat):
                    yield b": keep-alive\n\n" if as_sse else b"\n"
                elif not self._types or item.type in self._types:
                    yield _frame(item) if as_sse else render_event(item) + b"\n"


def _frame(event: RunEvent) -> bytes:
    """One server-sent event; deltas have no id, so that a reader resumes from what is in the journal."""
    head = b"" if event.seq is None else b"id: %d\n" % event.seq
    return head + b"event: " + event.type.encode() + b"\ndata: " + render_event(event) + b"\n\n"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
