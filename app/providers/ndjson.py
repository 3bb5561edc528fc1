"""JSON objects on lines of their own (NDJSON), as some model servers stream them.

Lines end in LF or CRLF; empty ones mean nothing. Bytes in, payloads out: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator


class LineParser:
    """Cuts a byte stream into its lines."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """Pieces of a line whose end has not arrived."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Every line that this chunk completes, without its end."""
        self._rest.append(chunk)
        if b"\n" not in chunk:
            return
        lines = b"".join(self._rest).split(b"\n")
        self._rest = [lines.pop()]
        for line in lines:
            if line.strip():
                yield line.strip()

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the stream: servers forget the last line's end."""
        line = b"".join(self._rest).strip()
        self._rest.clear()
        if line:
            yield line
