"""Server-sent events, as model vendors stream them (WHATWG HTML, section 9.2.6).

Only the `data` field matters here. Lines end in LF or CRLF. Bytes in, payloads out: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator


class EventParser:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """Pieces of a line whose end has not arrived."""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that this chunk completes, its lines joined by LF."""
        self._rest.append(chunk)
        if b"\n" not in chunk:
            return
        lines = b"".join(self._rest).split(b"\n")
        self._rest = [lines.pop()]
        for line in lines:
            yield from self._line(line.removesuffix(b"\r"))

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the stream: servers forget the last blank line."""
        yield from self._line(b"".join(self._rest).removesuffix(b"\r"))
        yield from self._line(b"")
        self._rest.clear()

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data.clear()
