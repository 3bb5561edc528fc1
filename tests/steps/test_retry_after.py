"""Reading `Retry-After`."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.retry_after import LONGEST, http_date, parse_retry_after

NOW = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "soon",
        "1e3",
        "inf",
        "nan",
        "0x10",
        "1 2",
        "٣",
        "--1",
        "1.",
        ".5",
        "Sun, 99 Jun 2025",
        ";",
    ],
)
def test_garbage_is_no_advice(value: str | None) -> None:
    assert parse_retry_after(value, now=NOW) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("-5", 0.0),
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("+30", 30.0),
        ("1.5", 1.5),
        ("3600", LONGEST),
        ("86400", LONGEST),
        ("9" * 5_000, LONGEST),
        ("-" + "9" * 5_000, 0.0),
        ("Sun, 01 Jun 2025 12:00:20 GMT", 20.0),
        ("Sunday, 01-Jun-25 12:00:20 GMT", 20.0),
        ("Sun, 01 Jun 2025 14:00:20 +0200", 20.0),
        ("Sun, 01 Jun 2025 11:59:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST),
        ("Sun Jun  1 12:00:20 2025", 20.0),
    ],
)
def test_advice_is_bounded_by_zero_and_an_hour(value: str, seconds: float) -> None:
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text())
def test_no_text_breaks_it(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)

    assert seconds is None or 0 <= seconds <= LONGEST


@given(st.from_regex(r"\A\w{3}, [0-9]{1,3} \w{3} [0-9]{1,6} [0-9]{1,3}:[0-9]{1,3}:[0-9]{1,3} \S{0,6}\Z"))
def test_no_near_date_breaks_it(value: str) -> None:
    seconds = parse_retry_after(value, now=NOW)

    assert seconds is None or 0 <= seconds <= LONGEST


def test_a_date_is_seconds_since_the_epoch() -> None:
    assert http_date("Sun, 01 Jun 2025 12:00:00 GMT") == NOW
    assert http_date("yesterday") is None
