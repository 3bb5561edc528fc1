"""What callers say in headers about the answer they want. Pure functions of header values."""

from __future__ import annotations

import re
from typing import Final, Literal

from app.services.errors import MalformedRequest

MAX_WAIT_SECONDS: Final = 60
EVENT_STREAM: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
StreamType = Literal["text/event-stream", "application/x-ndjson"]
_WAIT: Final = re.compile(r'\s*wait\s*=\s*"?([^";\s]*)"?\s*(?:;.*)?', re.IGNORECASE)


def preferred_wait(prefer: str | None) -> int | None:
    """Seconds of a `wait` preference (RFC 7240), at most 60; None without one.

    Other preferences are ignored, as the RFC asks. Raises `MalformedRequest` for a `wait` that is no
    whole number of seconds.
    """
    if prefer is None:
        return None
    for preference in prefer.split(","):
        match = _WAIT.fullmatch(preference)
        if match is None:
            continue
        if not match[1].isascii() or not match[1].isdigit():
            raise MalformedRequest(
                f"the preference {preference.strip()!r} is not valid; send Prefer: wait=30"
            )
        return min(int(match[1][:9]), MAX_WAIT_SECONDS)
    return None


def stream_type(accept: str | None) -> StreamType | None:
    """What to stream events as; None if neither form is acceptable. Server-sent events win ties."""
    if accept is None or not accept.strip():
        return EVENT_STREAM
    quality: dict[str, float] = {}
    for part in accept.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality[media_range] = _quality(parameters)
    stream = _acceptance(quality, EVENT_STREAM)
    lines = max(_acceptance(quality, NDJSON), quality.get("application/ndjson", 0.0))
    if max(stream, lines) <= 0:
        return None
    return EVENT_STREAM if stream >= lines else NDJSON


def _acceptance(quality: dict[str, float], media_type: str) -> float:
    main = media_type.partition("/")[0]
    for media_range in (media_type, f"{main}/*", "*/*"):
        if media_range in quality:
            return quality[media_range]
    return 0.0


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def tags_of(condition: str | None) -> frozenset[str]:
    """The entity tags of an `If-None-Match`, compared weakly (RFC 9110, 13.1.2)."""
    if condition is None:
        return frozenset()
    return frozenset(tag.strip().removeprefix("W/") for tag in condition.split(","))
