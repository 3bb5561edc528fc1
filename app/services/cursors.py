"""Opaque list cursors: where a page ended, and a fingerprint of the list it belongs to.

A cursor is base64url JSON `[fingerprint, position…]`. It grants nothing: every read takes the tenant
from the caller. The fingerprint keeps a cursor from being used with other filters, where it would skip
or repeat rows.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import orjson

from app.services.errors import InvalidCursor


def fingerprint(*parts: Any) -> str:
    """A short digest of what a list is filtered by; parts must be JSON."""
    body = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)
    return blake2b(body, digest_size=8).hexdigest()


def write_cursor(mark: str, position: Sequence[str | int | float]) -> str:
    """The cursor that continues after `position` in the list marked `mark`."""
    return base64.urlsafe_b64encode(orjson.dumps([mark, *position])).rstrip(b"=").decode()


def read_cursor(cursor: str, mark: str, shape: Sequence[type]) -> tuple[Any, ...]:
    """The position in a cursor. Raises `InvalidCursor` unless it was written for this list."""
    try:
        body = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True)
        value = orjson.loads(body)
    except (binascii.Error, UnicodeEncodeError, orjson.JSONDecodeError):
        value = None
    if not isinstance(value, list) or len(value) != len(shape) + 1 or value[0] != mark:
        raise InvalidCursor(
            "the cursor was not given out for this list; repeat the filters of its first page, or start "
            "again without a cursor"
        )
    position = tuple(value[1:])
    if any(type(part) is not kind for part, kind in zip(position, shape, strict=True)):
        raise InvalidCursor("the cursor is damaged; start again without a cursor")
    return position
