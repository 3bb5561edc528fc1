"""Server-sent events, as model vendors stream them (WHATWG HTML, section 9.2.6).

Only the `data` field matters here. Bytes in, payloads out: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.providers.lines import Lines


class EventParser:
    """Cuts a byte stream into the data of its events."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that this chunk completes, its lines joined by LF."""
        for line in self._lines.feed(chunk):
            yield from self._line(line)

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the stream: servers forget the last blank line."""
        yield from self._line(self._lines.rest())
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            yield b"\n".join(self._data)
            self._data.clear()
