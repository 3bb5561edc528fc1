"""Undoing `Content-Encoding` piece by piece, under a cap.

A few kilobytes of gzip can stand for gigabytes. Nothing here produces more than a bounded piece at a
time, so that whoever counts the decoded bytes can stop early. Only gzip is asked for; deflate is
understood because some servers send it unasked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

ACCEPT_ENCODING: Final = "gzip"
PIECE: Final = 64 * 1024
"""Decoded bytes produced at a time."""
_ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS


class UndecodableError(ValueError):
    """The body is not what its `Content-Encoding` says, or that encoding was not asked for."""


class Inflater:
    """Decodes one gzip or deflate body, which may consist of several members."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of at most `PIECE` bytes. Raises `UndecodableError`."""
        piece = b""
        # A full piece may have more behind it although all input is consumed.
        while data or len(piece) == PIECE:
            self._started = True
            if self._inflate.eof:
                self._inflate = zlib.decompressobj(_ZLIB_OR_GZIP)
            try:
                piece = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                raise UndecodableError("the body is not valid gzip") from error
            if self._inflate.eof:
                data = self._inflate.unused_data
                yield piece
                piece = b""
            else:
                data = self._inflate.unconsumed_tail
                yield piece

    def finish(self) -> None:
        """Raise `UndecodableError` when the body ended in the middle; no body at all is fine."""
        if self._started and not self._inflate.eof:
            raise UndecodableError("the compressed body ended early")


def inflater_for(content_encoding: str | None) -> Inflater | None:
    """The decoder for a `Content-Encoding`, None when the body is plain. Raises `UndecodableError`."""
    encoding = (content_encoding or "identity").strip().lower()
    if encoding in {"identity", ""}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return Inflater()
    raise UndecodableError(f"the body is encoded as {encoding!r}, which was not asked for")
