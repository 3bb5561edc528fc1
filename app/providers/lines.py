"""Lines of a byte stream that comes in chunks. Lines end in LF or CRLF. No I/O."""

from __future__ import annotations

from collections.abc import Sequence


class Lines:
    """Cuts a stream into its lines, without their ends."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        """Pieces of a line whose end has not arrived."""

    def feed(self, chunk: bytes) -> Sequence[bytes]:
        """Every line that this chunk completes."""
        self._rest.append(chunk)
        if b"\n" not in chunk:
            return ()
        *lines, rest = b"".join(self._rest).split(b"\n")
        self._rest = [rest]
        return [line.removesuffix(b"\r") for line in lines]

    def rest(self) -> bytes:
        """What is left at the end of the stream: servers forget the last line's end."""
        line = b"".join(self._rest).removesuffix(b"\r")
        self._rest.clear()
        return line
