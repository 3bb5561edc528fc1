"""The processes of one machine that share a data directory: each listens on a Unix socket there.

A socket that nobody listens on any more is left by a process that died; whoever finds it removes it. A
process that stands still is not waited for: past a bound, what it has not taken is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from uuid import uuid4

import structlog

from app.ports.peers import Heard, Note

LIVE_FOLDER: Final = "live"
"""In the data directory: one socket a process."""
MAX_PATH_BYTES: Final = 100
"""A longer path does not fit into the address of a socket; the folder's descriptor stands in for it."""
MAX_WAITING_BYTES: Final = 1_048_576
"""That a peer has not taken yet; past it the peer is given up until it has had time to recover."""
CONNECT_SECONDS: Final = 1.0
REST_SECONDS: Final = 5.0
"""How long nothing is told to a peer that did not answer."""

log = structlog.get_logger(__name__)


class SocketPeers:
    """`app.ports.peers.Peers` in a data directory that is there when it starts."""

    def __init__(self, data_dir: Path) -> None:
        self.name = uuid4().hex
        self._folder = data_dir / LIVE_FOLDER
        self._descriptor: int | None = None
        self._server: asyncio.AbstractServer | None = None
        self._incoming: set[asyncio.BaseTransport] = set()
        self._outgoing: dict[str, asyncio.WriteTransport] = {}
        self._resting: dict[str, float] = {}
        """Until when peers are left alone, in the loop's time."""

    @property
    def connected(self) -> bool:
        """Whether it listens."""
        return self._server is not None

    # Nothing here waits for a disk that could be far away: it makes, lists and removes entries of one small
    # local folder.

    async def start(self, *, heard: Heard, joined: Callable[[], None]) -> None:
        """Listen on a new socket."""
        loop = asyncio.get_running_loop()
        try:
            listener = self._listener()
            self._server = await loop.create_unix_server(
                lambda: _Incoming(self.name, heard, self._incoming), sock=listener
            )
        except OSError as error:
            log.warning("peers.not_heard", reason=error.strerror or str(error))
            await self.stop()
            return
        joined()

    async def tell(self, notes: Sequence[Note]) -> None:
        """Write to the sockets of others."""
        if self._server is None:
            return
        everybody = self._names() if any(note.to is None for note in notes) else []
        for note in notes:
            line = f"{self.name} {note.text}\n".encode()
            for name in everybody if note.to is None else [note.to]:
                if name != self.name and (transport := await self._reached(name)) is not None:
                    transport.write(line)

    async def stop(self) -> None:
        """Close and remove the socket, and what is open to others."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for transport in self._incoming:
            transport.close()
        for transport in self._outgoing.values():
            transport.close()
        self._outgoing.clear()
        if self._descriptor is not None:
            self._remove(self.name)
            os.close(self._descriptor)
            self._descriptor = None

    # --- sockets --------------------------------------------------------------------------------------

    def _listener(self) -> socket.socket:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Under another name until it takes connections: one that does not is taken for abandoned.
            unready = f".{self.name}"
            listener.bind(self._path(unready))
            listener.listen()
            (self._folder / unready).rename(self._folder / self.name)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        return listener

    def _path(self, name: str) -> str:
        path = self._folder / name
        if len(os.fsencode(path)) <= MAX_PATH_BYTES:
            return str(path)
        return f"/proc/self/fd/{self._descriptor}/{name}"

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self._folder.iterdir() if not path.name.startswith(".")]
        except OSError:
            return []

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / name).unlink()

    async def _reached(self, name: str) -> asyncio.WriteTransport | None:
        """The connection to a peer, a new one if need be; None for one that is gone or stands still."""
        transport = self._outgoing.get(name)
        if transport is not None:
            if transport.is_closing():
                del self._outgoing[name]
            elif transport.get_write_buffer_size() <= MAX_WAITING_BYTES:
                return transport
            else:
                self._give_up(name)
        return None if self._is_resting(name) else await self._connect(name)

    async def _connect(self, name: str) -> asyncio.WriteTransport | None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                transport, _ = await loop.create_unix_connection(asyncio.Protocol, self._path(name))
        except ConnectionRefusedError:
            self._remove(name)
        except FileNotFoundError:
            pass  # it has just left
        except OSError:
            self._give_up(name)
        else:
            self._outgoing[name] = transport
            return transport
        return None

    def _give_up(self, name: str) -> None:
        log.info("peers.stands_still", peer=name)
        self._resting[name] = asyncio.get_running_loop().time() + REST_SECONDS
        transport = self._outgoing.pop(name, None)
        if transport is not None:
            transport.abort()

    def _is_resting(self, name: str) -> bool:
        until = self._resting.get(name)
        if until is None or asyncio.get_running_loop().time() < until:
            return until is not None
        del self._resting[name]
        return False


class _Incoming(asyncio.Protocol):
    """Lines that one peer writes."""

    def __init__(self, name: str, heard: Heard, open_ones: set[asyncio.BaseTransport]) -> None:
        self._name = name
        self._heard = heard
        self._open_ones = open_ones
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol."""
        self._transport = transport
        self._open_ones.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio.Protocol."""
        if self._transport is not None:
            self._open_ones.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            sender, _, text = line.decode(errors="replace").partition(" ")
            self._heard(sender, text)
