"""Reading the `Retry-After` header (RFC 9110, section 10.2.3): the one place that does.

Total over every text a server may send: what cannot be read is no advice, and no advice exceeds an hour.
"""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST: Final = 3600.0
"""Seconds. A callee that asks for more is asked again after this."""

_SECONDS: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Seconds to wait before the next try, from 0 to `LONGEST`; None when the header says nothing usable.

    `now` is the time (epoch seconds) that an HTTP date is measured from. A number below 0 and a date in
    the past mean 0. Fractions of a second are taken, because vendors send them.
    """
    if value is None:
        return None
    text = value.strip()
    if _SECONDS.fullmatch(text):
        return _capped(float(text))
    moment = http_date(text)
    return None if moment is None else _capped(moment - now)


def http_date(value: str) -> float | None:
    """An HTTP date (RFC 9110, section 5.6.7) as epoch seconds; None for anything else."""
    try:
        moment = parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST)
