"""Times of schedules: what is refused, what the clocks of the world do to them, and what always holds."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ports.schedules import ScheduleSpec
from app.services import schedule_times
from app.services.cron_words import MOST_CHARACTERS
from app.services.schedule_times import Timing, TimingInvalid, timing_of

BERLIN = "Europe/Berlin"
ZONES = [
    "UTC",
    BERLIN,
    "America/New_York",
    "America/Santiago",  # its days begin in the gap
    "Australia/Lord_Howe",  # half an hour
    "Pacific/Apia",  # left out a day in 2011
    "Asia/Kathmandu",
]


def at(text: str, zone: str = "UTC", *, fold: int = 0) -> float:
    """Seconds of a time on the wall of a zone."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def timing(cron: str | None = None, zone: str = "UTC", *, anchor: float = 0.0, **spec: Any) -> Timing:
    return timing_of(ScheduleSpec(workflow="w", cron=cron, time_zone=zone, **spec), anchor=anchor)


def utc(times: list[float]) -> list[str]:
    return [datetime.fromtimestamp(time, UTC).isoformat()[:-6] for time in times]


def following(timing: Timing, after: float, count: int) -> list[str]:
    return utc(list(timing.following(after, count)))


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "pointers"),
    [
        ({}, [""]),
        ({"cron": "* * * * *", "interval_seconds": 5}, ["/interval_seconds"]),
        ({"cron": ""}, ["/cron"]),
        ({"cron": "* * * *"}, ["/cron"]),
        ({"cron": "0 * * * * *"}, ["/cron"]),  # seconds
        ({"cron": "60 * * * *"}, ["/cron"]),
        ({"cron": "0 9 * * MON-FRY"}, ["/cron"]),
        ({"cron": "0 0 * * 5-1"}, ["/cron"]),
        ({"cron": "0 0 30 2 *"}, ["/cron"]),  # no such day
        ({"cron": "0 0 */30 * MON#2"}, ["/cron"]),  # two rules for the day that never meet
        ({"cron": "@reboot"}, ["/cron"]),
        ({"cron": "\u0660 \u0660 * * *"}, ["/cron"]),
        ({"cron": "0,1" + ",1" * MOST_CHARACTERS + " * * * *"}, ["/cron"]),
        ({"cron": "0 9 * * *", "time_zone": "Europe/Berln"}, ["/time_zone"]),
        ({"cron": "0 9 * * *", "time_zone": "../../etc/passwd"}, ["/time_zone"]),
        ({"cron": "0 9 * * *", "time_zone": "Europe"}, ["/time_zone"]),
        ({"cron": "0 9 * * *", "time_zone": ""}, ["/time_zone"]),
        ({"cron": "0 9 * * *", "time_zone": "right/UTC"}, ["/time_zone"]),
        ({"interval_seconds": 5, "start_at": -1.0}, ["/start_at"]),
        ({"interval_seconds": 5, "start_at": 1e11}, ["/start_at"]),
        ({"interval_seconds": 5, "start_at": 20.0, "end_at": 10.0}, ["/end_at"]),
        ({"cron": "x", "time_zone": "y", "end_at": 1e12}, ["/time_zone", "/cron", "/end_at"]),
    ],
)
def test_times_that_make_no_sense_are_refused_with_their_place_and_a_hint(
    spec: dict[str, Any], pointers: list[str]
) -> None:
    with pytest.raises(TimingInvalid) as refused:
        timing_of(ScheduleSpec(workflow="w", **spec), anchor=0.0)
    assert [problem.pointer for problem in refused.value.problems] == pointers
    assert all(problem.hint for problem in refused.value.problems)


def test_a_misspelt_zone_is_answered_with_the_right_one() -> None:
    with pytest.raises(TimingInvalid) as refused:
        timing("0 9 * * *", "Europe/Berln")
    assert refused.value.problems[0].hint == "did you mean 'Europe/Berlin'?"


@pytest.mark.parametrize(
    ("cron", "detail", "hint"),
    [
        ("0 0 31 2 *", "names a day that its month does not have", "February has 29 days at most"),
        ("0 0 */30 * MON#2", "never matches: no day meets it", "L is the last"),
        ("@reboot", "there is no '@reboot' here", "use one of '@hourly', '@daily'"),
        ("@dayly", "there is no '@dayly' here", "did you mean '@daily'?"),
        ("0 0 9 * * MON", "has six fields and not five", "leave one out, as in '0 9 * * MON'"),
        ("* * * *", "has not five fields but 4", "write minute, hour, day of month"),
        ("0 9 * * monday", "'monday' is no day of week", "did you mean 'MON'?"),
        ("0 9 * * MO-FR", "'MO-FR' is no day of week", "did you mean 'MON-FRI'?"),
        ("0 9 1 JANUARY *", "'JANUARY' is no month", "did you mean 'JAN'?"),
        ("0 9 * * X", "'X' is no day of week", "the day of week is 0 to 7"),
        ("61 * * * *", "'61' is no minute", "the minute is 0 to 59"),
        ("0 9 ? * MON", "'?' is no day of month", "write '*' for any"),
    ],
)
def test_a_refused_expression_says_what_is_wrong_and_what_to_write(cron: str, detail: str, hint: str) -> None:
    with pytest.raises(TimingInvalid) as caught:
        timing(cron)
    (problem,) = caught.value.problems
    assert detail in problem.detail
    assert hint in (problem.hint or "")


@given(cron=st.text("0123456789*/,-#LW MONJAN@", max_size=30))
def test_whatever_stands_in_an_expression_it_is_read_or_refused(cron: str) -> None:
    try:
        accepted = timing(cron)
    except TimingInvalid:
        return
    assert accepted.next_after(0.0) is not None


# --- clocks that change -------------------------------------------------------------------------------


def test_a_time_that_does_not_exist_fires_at_the_end_of_the_gap() -> None:
    daily = timing("30 2 * * *", BERLIN)
    assert following(daily, at("2026-03-28T12:00"), 2) == ["2026-03-29T01:00:00", "2026-03-30T00:30:00"]


def test_several_times_in_one_gap_fire_once() -> None:
    twice = timing("10,40 2 * * *", BERLIN)
    assert following(twice, at("2026-03-28T12:00"), 2) == ["2026-03-29T01:00:00", "2026-03-30T00:10:00"]


def test_a_time_that_comes_twice_fires_the_first_time() -> None:
    daily = timing("30 2 * * *", BERLIN)
    first = at("2026-10-25T02:30", BERLIN, fold=0)
    assert daily.next_after(at("2026-10-24T12:00")) == first
    for after in (first, at("2026-10-25T02:10", BERLIN, fold=1), at("2026-10-25T02:30", BERLIN, fold=1)):
        assert daily.next_after(after) == at("2026-10-26T02:30", BERLIN)


def test_every_hour_is_every_hour_whatever_the_clocks_do() -> None:
    hourly = timing("0 * * * *", BERLIN)
    for day in ("2026-03-29", "2026-10-25"):
        start = at(f"{day}T00:00")
        assert list(hourly.following(start - 1, 24)) == [start + 3600 * hour for hour in range(24)]


def test_an_hour_is_not_missed_where_clocks_are_set_by_half_an_hour() -> None:
    # Lord Howe Island goes from 02:00 to 02:30 on that day, to UTC+11.
    stepped = timing("*/30 */5 * * *", "Australia/Lord_Howe")
    before = datetime(2024, 10, 5, 15, 0, tzinfo=UTC).timestamp()
    assert following(stepped, before, 2) == ["2024-10-05T18:00:00", "2024-10-05T18:30:00"]


def test_a_cron_time_is_of_its_zone() -> None:
    weekdays = timing("0 9 * * MON-FRI", "America/New_York")
    assert following(weekdays, at("2026-10-30T12:00"), 2) == ["2026-10-30T13:00:00", "2026-11-02T14:00:00"]


@pytest.mark.parametrize(
    ("alias", "expected"), [("@hourly", "2026-01-01T01:00:00"), (" @Daily ", "2026-01-02T00:00:00")]
)
def test_an_alias_stands_for_its_expression(alias: str, expected: str) -> None:
    assert following(timing(alias), at("2026-01-01T00:00"), 1) == [expected]


# --- bounds -------------------------------------------------------------------------------------------


def test_an_interval_is_counted_from_its_anchor() -> None:
    every = timing(interval_seconds=90, anchor=1000.0)
    assert [every.next_after(after) for after in (1000.0, 1089.5, 1090.0)] == [1090.0, 1090.0, 1180.0]


def test_an_interval_with_a_start_fires_at_its_start() -> None:
    every = timing(interval_seconds=90, anchor=1000.0, start_at=1000.0)
    assert list(every.following(0.0, 2)) == [1000.0, 1090.0]


def test_nothing_fires_before_the_start_or_after_the_end() -> None:
    hourly = timing("0 * * * *", start_at=at("2026-01-01T10:00"), end_at=at("2026-01-01T12:00"))
    expected = ["2026-01-01T10:00:00", "2026-01-01T11:00:00", "2026-01-01T12:00:00"]
    assert following(hourly, 0.0, 10) == expected
    assert hourly.next_after(at("2026-01-01T12:00")) is None
    assert following(timing("0 * * * *", start_at=0.5), 0.0, 1) == ["1970-01-01T01:00:00"]


FIELDS = [
    st.sampled_from(["*", "*/7", "0", "30", "5,55", "10-20"]),
    st.sampled_from(["*", "*/5", "0", "2", "1-3", "23"]),
    st.sampled_from(["*", "1", "L", "28-31", "*/9"]),
    st.sampled_from(["*", "2,3", "OCT-NOV"]),
    st.sampled_from(["*", "SUN", "MON-FRI", "SUN#1", "5L"]),
]
CRONS = st.tuples(*FIELDS).map(" ".join)
MOMENTS = st.integers(int(at("2011-01-01T00:00")), int(at("2027-01-01T00:00")))


@st.composite
def timings(draw: st.DrawFn) -> Timing:
    if draw(st.booleans()):
        return timing(interval_seconds=draw(st.integers(1, 100_000)), anchor=float(draw(MOMENTS)))
    try:
        return timing(draw(CRONS), draw(st.sampled_from(ZONES)))
    except TimingInvalid:  # some of these never match
        return timing("0 * * * *")


@given(timing=timings(), after=MOMENTS, fraction=st.floats(0, 0.999))
def test_times_only_move_forward_and_do_not_depend_on_where_one_begins(
    timing: Timing, after: int, fraction: float
) -> None:
    times = list(timing.following(after + fraction, 12))
    assert times[0] > after
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(time == int(time) for time in times)
    for earlier, later in pairwise(times):
        for moment in (earlier, (earlier + later) // 2, later - 1):
            assert timing.next_after(moment) == later


@given(timing=timings(), start=MOMENTS, seconds=st.integers(0, 3 * 86_400))
def test_the_latest_time_of_a_stretch_is_the_last_one_counted_from_its_beginning(
    timing: Timing, start: int, seconds: int
) -> None:
    now = start + seconds
    last = None
    for found in timing.following(start - 1, 100):
        if found > now:
            break
        last = found
    else:
        return  # too many to count
    assert timing.last_until(start, now + 0.5) == last


def test_a_zone_that_exists_is_found_without_looking_at_all_of_them() -> None:
    schedule_times._zone_names.cache_clear()
    assert timing("0 9 * * *", "Pacific/Chatham").next_after(0.0) is not None
    assert schedule_times._zone_names.cache_info().misses == 0


@pytest.mark.parametrize(
    "zone", ["posix/Europe/Berlin", "right/Europe/Berlin", "posixrules", "/etc/localtime"]
)
def test_a_zone_has_no_other_name_than_its_own(zone: str) -> None:
    with pytest.raises(TimingInvalid):
        timing("0 9 * * *", zone)
