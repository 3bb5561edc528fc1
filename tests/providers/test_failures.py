"""How long a vendor asks to wait, in all the ways there are to say so, and in ways there are not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.errors import PermanentError
from app.ports.retry_after import LONGEST
from app.providers.failures import from_status, parse_reset, retry_after

DATE = "Wed, 21 Oct 2026 07:28:00 GMT"
NOW = datetime(2026, 10, 21, 7, 28, tzinfo=UTC)
IN_A_MINUTE = NOW + timedelta(seconds=60)
NAMES = (
    *("retry-after", "retry-after-ms", "date", "ratelimit", "ratelimit-remaining", "ratelimit-reset"),
    *("x-ratelimit-remaining", "x-ratelimit-reset", "x-ratelimit-remaining-tokens"),
    *("x-ratelimit-reset-tokens", "anthropic-ratelimit-requests-remaining"),
    "anthropic-ratelimit-requests-reset",
)


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": ""},
        {"retry-after": "later"},
        {"retry-after": "NaN"},
        {"retry-after": "inf"},
        {"retry-after": "1e3"},
        {"retry-after": "0x10"},
        {"retry-after": "٣"},
        {"retry-after": "7, 9"},
        {"retry-after-ms": "soon"},
        {"x-ratelimit-remaining-tokens": "0"},
        {"x-ratelimit-reset-tokens": "6m0s"},
        {"x-ratelimit-remaining-tokens": "12", "x-ratelimit-reset-tokens": "6m0s"},
        {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6 min"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2026-13-41T99:99:99Z"},
        {"ratelimit": '"minute";r=5;t=30'},
        {"ratelimit": '"minute";r=0'},
        {"ratelimit": ";;;==,,"},
    ],
)
def test_what_says_nothing_usable_is_no_advice(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "86400"},
        {"retry-after": "9" * 400},
        {"retry-after-ms": "86400000"},
        {"retry-after-ms": "9" * 400},
        {"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT", "date": DATE},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "999999h"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999999"},
        {
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": "9999-12-31T23:59:59Z",
        },
        {"ratelimit": '"day";r=0;t=86400'},
    ],
)
def test_nobody_is_waited_for_longer_than_an_hour(headers: dict[str, str]) -> None:
    assert retry_after(headers) == LONGEST


@pytest.mark.parametrize(
    "headers",
    [
        {"retry-after": "-5"},
        {"retry-after": "Tue, 20 Oct 2026 07:28:00 GMT", "date": DATE},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "-1"},
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW.timestamp()) - 9), "date": DATE},
    ],
)
def test_a_moment_that_is_gone_means_now(headers: dict[str, str]) -> None:
    assert retry_after(headers) == 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, 30),
        ({"retry-after": "Wednesday, 21-Oct-26 07:28:30 GMT"}, 30),
        ({"retry-after": "Wed Oct 21 07:28:30 2026"}, 30),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "7200.5"}, 7.2005),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "4"}, 4),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0.5s"}, 60.5),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.66"}, 7.66),
        (
            {
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "20ms",
                "x-ratelimit-remaining-tokens": "-3",
                "x-ratelimit-reset-tokens": "2s",
            },
            2,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": IN_A_MINUTE.isoformat().replace("+00:00", "Z"),
            },
            60,
        ),
        (
            {
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-10-21T09:29:00+02:00",
            },
            60,
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(IN_A_MINUTE.timestamp()))}, 60),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(IN_A_MINUTE.timestamp() * 1000))}, 60),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "42"}, 42),
        ({"ratelimit": '"minute";r=0;t=30, "day";r=900;t=86000'}, 30),
        ({"ratelimit": "limit;t=30; r=0"}, 30),
    ],
)
def test_every_way_of_saying_it_is_understood(headers: dict[str, str], seconds: float) -> None:
    assert retry_after({**headers, "date": DATE}) == pytest.approx(seconds)


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40) | st.floats().map(str) | st.just("0")))
def test_any_headers_give_a_delay_in_bounds_or_none(headers: dict[str, str]) -> None:
    seconds = retry_after(headers)
    assert seconds is None or 0 <= seconds <= LONGEST


@given(st.text() | st.datetimes().map(datetime.isoformat) | st.floats().map(str))
def test_any_reset_is_in_bounds_or_none(text: str) -> None:
    seconds = parse_reset(text, now=0.0)
    assert seconds is None or 0 <= seconds <= LONGEST


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_said_to_be_one(status: int) -> None:
    error = from_status(status, {"location": "https://elsewhere"}, "no reason was given", instance="x")
    assert (type(error), error.error_class) == (PermanentError, "invalid_request")
    assert "redirect" in str(error)
    assert "base_url" in str(error)
    assert "elsewhere" not in str(error)
