"""A wire to PostgreSQL that breaks when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class CuttingProxy:
    """Passes bytes on between clients and one server; `url` is what clients connect to."""

    def __init__(self, url: str) -> None:
        self.url = ""
        self.cuts = 0
        self._target = urlsplit(url)
        self._word: bytes | None = None
        self._arrives = False
        self._cut = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()
        self._streams: set[asyncio.StreamWriter] = set()

    @classmethod
    @asynccontextmanager
    async def before(cls, url: str) -> AsyncIterator[CuttingProxy]:
        """A proxy that runs while the context is open."""
        proxy = cls(url)
        server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy.url = f"postgresql://{proxy._target.username}@127.0.0.1:{port}{proxy._target.path}"
        try:
            yield proxy
        finally:
            server.close()
            proxy.let_in()
            proxy.cut_all()
            await server.wait_closed()

    def cut_next(self, word: bytes, *, arrives: bool) -> None:
        """Break the connection on which a client says this next; `arrives`: the server hears it before."""
        self._word, self._arrives = word, arrives

    async def was_cut(self) -> None:
        """Wait for that."""
        await self._cut.wait()

    def hold(self) -> None:
        """Let nobody connect from here on."""
        self._open.clear()

    def let_in(self) -> None:
        """Let clients connect again."""
        self._open.set()

    def cut_all(self) -> None:
        """Break every connection."""
        for stream in self._streams:
            stream.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        try:
            if not self._open.is_set():
                return
            there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
            self._streams.add(back)
            try:
                answers = asyncio.create_task(self._pass_on(there, writer))
                await self._listen(reader, back, writer)
                answers.cancel()
                await asyncio.gather(answers, return_exceptions=True)
            finally:
                self._streams.discard(back)
                back.close()
        finally:
            self._streams.discard(writer)
            writer.close()

    async def _listen(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(65_536):
                if self._word is None or self._word not in said:
                    back.write(said)
                    continue
                self._word = None
                self.cuts += 1
                writer.transport.abort()
                if self._arrives:
                    back.write(said)
                    await back.drain()
                    await asyncio.sleep(0.1)  # the server does it before it sees that nobody listens
                self._cut.set()
                return

    @staticmethod
    async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while said := await reader.read(65_536):
                writer.write(said)
        writer.close()
