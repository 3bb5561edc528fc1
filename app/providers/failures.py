"""What a vendor's HTTP status means, where the vendor says nothing more exact.

Adapters look at their vendor's error codes first and leave the rest to `from_status`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
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
    504: "timeout",
}
FIRST_SERVER_ERROR: Final = 500
CREDENTIAL_STATUSES: Final = frozenset({401, 403})

_DURATION: Final = re.compile(
    r"(?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m(?!s))?(?:(?P<s>\d{1,9}(?:\.\d{1,9})?)s)?(?:(?P<ms>\d{1,9})ms)?"
)


def from_status(status: int, headers: Mapping[str, str], said: str, *, instance: str) -> CallError:
    """The error for an answer that is no success; `said` is the vendor's message, fit to be shown.

    408, 409, 425, 429 and 5xx (but 501 and 505) are temporary, with the vendor's delay; the rest is
    permanent.
    """
    error_class = TEMPORARY.get(status)
    if error_class is None and status >= FIRST_SERVER_ERROR and status not in PERMANENT:
        error_class = "server_error"
    if error_class is not None:
        message = f"instance {instance!r} answered {status}: {said}"
        return TemporaryError(error_class, message, status=status, retry_after=retry_after(headers))
    if status in CREDENTIAL_STATUSES:
        # Some servers repeat the key they refused, cut short: none of what they say is passed on.
        message = f"instance {instance!r} refused its credentials ({status}); ask the operator to check them"
    else:
        message = f"instance {instance!r} refused the request ({status}): {said}"
    return PermanentError(PERMANENT.get(status, "invalid_request"), message, status=status)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds a vendor asks to wait: `retry-after-ms`, `retry-after`, else the reset of a used-up limit."""
    milliseconds = parse_retry_after(headers.get("retry-after-ms"), now=0.0)
    if milliseconds is not None:
        return milliseconds / 1000
    # A date is meant on the vendor's own clock, where it shows one.
    their_now = http_date(headers.get("date", ""))
    seconds = parse_retry_after(
        headers.get("retry-after"), now=time.time() if their_now is None else their_now
    )
    if seconds is not None:
        return seconds
    resets = [
        parse_duration(headers.get(f"x-ratelimit-reset-{unit}", ""))
        for unit in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{unit}") == "0"
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def parse_duration(text: str) -> float | None:
    """Seconds of `6m0s`, `1h2m3.5s` or `20ms`, at most an hour; None for anything else."""
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        return None
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return min(hours * 3600 + minutes * 60 + seconds + milliseconds / 1000, LONGEST)
