"""JSON objects on lines of their own (NDJSON), as some model servers stream them.

Empty lines mean nothing. Bytes in, payloads out: no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator

from app.providers.lines import Lines


class LineParser:
    """Cuts a byte stream into the payloads of its lines."""

    def __init__(self) -> None:
        self._lines = Lines()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Every payload that this chunk completes."""
        return (line.strip() for line in self._lines.feed(chunk) if line.strip())

    def finish(self) -> Iterator[bytes]:
        """What is left at the end of the stream."""
        line = self._lines.rest().strip()
        if line:
            yield line
