"""Times as the API writes them: RFC 3339, UTC, microseconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from math import floor
from typing import Final

MICRO: Final = 1_000_000


def rfc3339(seconds: float) -> str:
    """Epoch seconds to `2026-01-31T12:00:00.123456Z`."""
    whole = floor(seconds)
    micro = round((seconds - whole) * MICRO)
    if micro == MICRO:
        whole, micro = whole + 1, 0
    return f"{_second(whole)}.{micro:06d}Z"


def rfc3339_or_none(seconds: float | None) -> str | None:
    """The same for a time that may not have come."""
    return None if seconds is None else rfc3339(seconds)


@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    """Kept, because the times of one answer lie within a few seconds of those of the next."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[: -len("+00:00")]
