"""A server that misbehaves, in the test's own process: what it does to a connection is a function.

It knows nothing of HTTP but where a request ends, so that it can break every rule; the simulator's
`faults` are what a vendor does, these are what no vendor should. It counts its open connections.

    async with misbehaving(drip) as server:
        ... OpenAIConfig(name="bad", base_url=server.base_url) ...
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import orjson

from tests.simulator import answers

Play = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What is done to a connection once its request is there; the connection is closed after it."""

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_WHOLE: Final = answers.completion("sim", answers.TEXT)
_PAUSE: Final = 0.01


@dataclass(slots=True)
class Misbehaving:
    """A running server."""

    port: int = 0
    requests: int = 0
    open_sockets: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def base_url(self) -> str:
        """What an OpenAI-compatible client is configured with."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def until(self, *, requests: int | None = None, open_at_most: int | None = None) -> None:
        """Wait until so many requests have come, or no more connections are left. Raises `TimeoutError`."""
        async with asyncio.timeout(10):
            while (requests is not None and self.requests < requests) or (
                open_at_most is not None and self.open_sockets > open_at_most
            ):
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def misbehaving(play: Play) -> AsyncIterator[Misbehaving]:
    """Serve until the block is left; connections that are open then are broken."""
    server = Misbehaving()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        server.open_sockets += 1
        try:
            await _played(server, play, reader, writer)
        finally:
            writer.transport.abort()
            server.open_sockets -= 1
            server.changed.set()
            if task is not None:
                tasks.discard(task)

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _played(
    server: Misbehaving, play: Play, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        server.requests += 1
        server.changed.set()
        playing = asyncio.ensure_future(play(reader, writer))
        leaving = asyncio.ensure_future(reader.read())
        try:
            await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (playing, leaving):
                task.cancel()
            await asyncio.gather(playing, leaving, return_exceptions=True)


# --- what it does -------------------------------------------------------------------------------------


def head(status: int = 200, **headers: str) -> bytes:
    """The head of an answer; underscores in names stand for hyphens."""
    lines = [f"HTTP/1.1 {status} Whatever", "content-type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def says(data: bytes) -> Play:
    """Send that and hang up."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await _let_it_arrive(writer)

    return play


def stalls_after(data: bytes) -> Play:
    """Send that and say no more."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.Event().wait()

    return play


def drips(data: bytes, drop: bytes) -> Play:
    """Send that, and then a drop at a time, for ever."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(_PAUSE)

    return play


def floods(data: bytes, more: bytes) -> Play:
    """Send that, and then as much as is taken, for ever."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        while True:
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(0)

    return play


def resets_after(data: bytes) -> Play:
    """Send that, let it arrive, and reset the connection."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(_PAUSE)
        linger = struct.pack("ii", 1, 0)
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    return play


def failing(status: int, **headers: str) -> Play:
    """Answer with an error."""
    body = orjson.dumps({"error": {"message": "no", "type": "t", "code": None}})
    return says(head(status, content_length=str(len(body)), connection="close", **headers) + body)


async def _let_it_arrive(writer: asyncio.StreamWriter) -> None:
    """An orderly end: what was sent is read before the connection is gone."""
    writer.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
    await asyncio.sleep(_PAUSE)


def chunk(data: bytes) -> bytes:
    """A piece of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKED: Final = head(transfer_encoding="chunked")
EVENTS: Final = head(transfer_encoding="chunked").replace(b"application/json", b"text/event-stream")
EVENT: Final = b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * 1000 + b'"}}]}\n\n'

BODIES: Final[Mapping[str, Play]] = {
    "stalls before the head": stalls_after(b""),
    "stalls in the head": stalls_after(b"HTTP/1.1 200 OK\r\ncontent-"),
    "stalls in the body": stalls_after(head(content_length="1000") + _WHOLE[:50]),
    "drips the head": drips(b"HTTP/1.1 200 OK\r\nx-", b"y"),
    "drips the body": drips(head(content_length="100000"), b" "),
    "drips chunks": drips(CHUNKED, chunk(b" ")),
    "resets before the head": resets_after(b""),
    "resets in the body": resets_after(head(content_length=str(len(_WHOLE))) + _WHOLE[:50]),
    "resets between chunks": resets_after(CHUNKED + chunk(_WHOLE[:50])),
    "says too long a length": says(head(content_length=str(len(_WHOLE) + 500)) + _WHOLE),
    "says too short a length": says(head(content_length="40") + _WHOLE),
    "says a length that is none": says(head(content_length="many") + _WHOLE),
    "says two lengths": says(head(content_length="40").replace(b"40", b"40\r\ncontent-length: 50") + _WHOLE),
    "says a chunk that is none": says(CHUNKED + b"zz\r\n" + _WHOLE),
    "ends before its last chunk": says(CHUNKED + chunk(_WHOLE[:50])),
    "sends half of its JSON": says(head(content_length="60") + _WHOLE[:60]),
    "sends JSON of another kind": says(head(content_length="5") + b"[[1]]"),
    "sends deep JSON": says(head(content_length="200000") + b"[" * 200_000),
    "sends bytes": says(head(content_length="4") + b"\xff\xfe\x00\x01"),
    "sends nothing": says(head(content_length="0")),
    "sends a page": says(head(content_length="13") + b"<html></html>"),
    "is no HTTP server": says(b"220 mail.example ESMTP ready\r\n"),
    "floods with headers": floods(b"HTTP/1.1 200 OK\r\n", b"".join(b"x-%d: y\r\n" % n for n in range(1000))),
    "floods with one header": floods(b"HTTP/1.1 200 OK\r\nx: ", b"y" * 65_536),
    "floods with a body": floods(CHUNKED, chunk(b" " * 65_536)),
    "sends a gzip bomb": says(answers.gzip_bomb()),
    "floods with a length": floods(head(content_length=str(10**15)), b" " * 65_536),
    "floods with interim answers": floods(b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 100),
}
"""What it does to any request."""
STREAMS: Final[Mapping[str, Play]] = {
    "stalls between events": stalls_after(EVENTS + chunk(EVENT)),
    "drips comments": drips(EVENTS, chunk(b": still here\n\n")),
    "drips an event": drips(EVENTS + chunk(b"data: "), chunk(b"x")),
    "resets between events": resets_after(EVENTS + chunk(EVENT)),
    "ends between events": says(EVENTS + chunk(EVENT) + b"0\r\n\r\n"),
    "sends an event that is no JSON": says(EVENTS + chunk(b"data: {nope\n\n") + b"0\r\n\r\n"),
    "floods with events": floods(EVENTS, chunk(EVENT * 50)),
    "floods with one event": floods(EVENTS + chunk(b"data: "), chunk(b"x" * 65_536)),
    "floods with comments": floods(EVENTS, chunk(b": x\n" * 10_000)),
}
"""What it does to a stream, beside that."""
