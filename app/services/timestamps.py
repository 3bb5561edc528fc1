"""Times as the API writes them: RFC 3339, UTC, microseconds, `Z`."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(seconds: float) -> str:
    """Epoch seconds to `2026-01-31T12:00:00.123456Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def rfc3339_or_none(seconds: float | None) -> str | None:
    """The same for a time that may not have come."""
    return None if seconds is None else rfc3339(seconds)
