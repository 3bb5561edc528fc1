"""What a vendor's HTTP status means, where the vendor says nothing more exact.

Adapters look at their vendor's error codes first and leave the rest to `from_status`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from app.ports.errors import CallError, ErrorClass, PermanentError, TemporaryError
from app.ports.retry_after import LONGEST, http_date, parse_retry_after

PERMANENT: Final[Mapping[int, ErrorClass]] = {
    401: "authentication",
    402: "permission",
    403: "permission",
    404: "not_found",
    405: "not_found",
    410: "not_found",
    413: "too_large",
    501: "invalid_request",
    505: "invalid_request",
}
TEMPORARY: Final[Mapping[int, ErrorClass]] = {
    408: "timeout",
    409: "server_error",
    425: "server_error",
    429: "rate_limit",
    499: "connection",
    504: "timeout",
}
FIRST_SERVER_ERROR: Final = 500
REDIRECTS: Final = range(300, 400)
CREDENTIAL_STATUSES: Final = frozenset({401, 403})

FIRST_EPOCH: Final = 1e9
"""Numbers from here on are instants, not durations: a reset is never 30 years away."""

_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_USED_UP: Final = re.compile(r"0+(\.0+)?|-[0-9.]+")
_NONE_LEFT: Final = re.compile(r";\s*r=0+\s*(;|$)")
_RESET: Final = re.compile(r";\s*t=([0-9]+)")
_DURATION: Final = re.compile(
    r"(?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m(?!s))?(?:(?P<s>\d{1,9}(?:\.\d{1,9})?)s)?(?:(?P<ms>\d{1,9})ms)?"
)


def from_status(status: int, headers: Mapping[str, str], said: str, *, instance: str) -> CallError:
    """The error for an answer that is no success; `said` is the vendor's message, fit to be shown.

    408, 409, 425, 429, 499 and 5xx (but 501 and 505) are temporary, with the vendor's delay; the rest is
    permanent.
    """
    error_class = TEMPORARY.get(status)
    if error_class is None and status >= FIRST_SERVER_ERROR and status not in PERMANENT:
        error_class = "server_error"
    if error_class is not None:
        message = f"instance {instance!r} answered {status}: {said}"
        return TemporaryError(error_class, message, status=status, retry_after=retry_after(headers))
    if status in CREDENTIAL_STATUSES:
        return refused_credentials(status, instance=instance)
    if status in REDIRECTS:
        said = "it answers with a redirect, which is not followed; ask the operator to check its base_url"
    message = f"instance {instance!r} refused the request ({status}): {said}"
    return PermanentError(PERMANENT.get(status, "invalid_request"), message, status=status)


def refused_credentials(status: int, *, instance: str) -> PermanentError:
    """The error for credentials that a vendor does not take, whatever status it has for that.

    Some servers repeat the key they refused, cut short: none of what they say is passed on.
    """
    message = f"instance {instance!r} refused its credentials ({status}); ask the operator to check them"
    error_class = PERMANENT[status] if status in CREDENTIAL_STATUSES else "authentication"
    return PermanentError(error_class, message, status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a vendor asks to wait: in `retry-after-ms` or `retry-after`, else until a used-up limit resets.

    At most an hour, whatever the headers say; None where they say nothing that can be read.
    """
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = headers.get(name, "").strip()
        if _NUMBER.fullmatch(milliseconds):
            return _capped(float(milliseconds) / 1000)
    # A date is meant on the vendor's own clock, where it shows one.
    their_now = http_date(headers.get("date", ""))
    now = time.time() if their_now is None else their_now
    seconds = parse_retry_after(headers.get("retry-after"), now=now)
    if seconds is not None:
        return seconds
    # Each limit has two headers that differ in one word: x-ratelimit-remaining-tokens and …-reset-tokens,
    # or x-ratelimit-tokens-remaining and …-tokens-reset.
    resets = [
        parse_reset(headers.get(name.replace("remaining", "reset"), ""), now=now)
        for name, left in headers.items()
        if "ratelimit" in name and "remaining" in name and _USED_UP.fullmatch(left.strip())
    ]
    # The IETF's draft has one header for all of them: "minute";r=0;t=30, "day";r=900;t=86000
    resets += [
        _capped(float(reset[1]))
        for item in headers.get("ratelimit", "").split(",")
        if _NONE_LEFT.search(item) and (reset := _RESET.search(item))
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def parse_reset(text: str, *, now: float) -> float | None:
    """Seconds until a limit is reset, 0 to an hour: a duration, seconds, or an instant (RFC 3339, an HTTP
    date, seconds or milliseconds of the epoch) measured from `now`. None for anything else.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        number = float(text)
        if number < FIRST_EPOCH:
            return _capped(number)
        return _capped((number if number < FIRST_EPOCH * 1000 else number / 1000) - now)
    duration = parse_duration(text)
    if duration is not None:
        return duration
    instant = _rfc3339(text) or http_date(text)
    return None if instant is None else _capped(instant - now)


def parse_duration(text: str) -> float | None:
    """Seconds of `6m0s`, `1h2m3.5s` or `20ms`, at most an hour; None for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return min(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, LONGEST)


def _rfc3339(text: str) -> float | None:
    try:
        instant = datetime.fromisoformat(text) if "T" in text.upper() else None
        if instant is None:
            return None
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST)
