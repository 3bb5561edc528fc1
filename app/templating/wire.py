"""What a renderer and its workers say to each other: frames of JSON, so that neither can run the other's.

    frame     4 bytes length, big endian, then that many bytes of JSON
    hello     {"memory_bytes", "timeout_seconds", "max_output_chars"}   to the worker, once
    ready     {}                                                        from the worker, once
    request   {"parts": [[use, source, extra names, secrets]…], "context": {…}}
    answer    {"values": […]}  or  {"failed": index of the part, "message": "…", "spent": bool}

After an answer with `spent` the worker ends: it ran out of memory, and what it holds is doubtful.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

import orjson

HEADER: Final = struct.Struct(">I")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON value")


def frame(message: Any) -> bytes:
    """One frame. Raises `TypeError` for what JSON cannot carry."""
    body = orjson.dumps(message, default=_plain)
    return HEADER.pack(len(body)) + body


def unframe(body: bytes) -> Any:
    """What a frame's body says. Raises `ValueError`."""
    return orjson.loads(body)
