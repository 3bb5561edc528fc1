"""So much a minute, and never more in any minute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.providers.rates import MINUTE, Rate


def test_what_is_not_there_has_to_be_waited_for() -> None:
    rate = Rate(60, now=0.0)
    for _ in range(3):
        assert rate.ready_in(1, 0.0) == 0
        rate.take(1)
    seconds = rate.ready_in(1, 0.0)
    assert 1.0 < seconds < 1.1
    assert rate.ready_in(1, seconds) == 0


def test_an_amount_larger_than_the_bucket_waits_for_all_of_it_and_is_paid_back() -> None:
    rate = Rate(600, now=0.0)
    rate.take(5)
    assert rate.ready_in(500, 0.0) > 0
    assert rate.ready_in(500, 10.0) == 0
    rate.take(500)
    assert rate.ready_in(1, 10.0) > 40


def test_an_absurd_amount_blocks_for_two_minutes_at_most() -> None:
    rate = Rate(1000, now=0.0)
    rate.take(10**12)
    assert rate.ready_in(1, 0.0) < 2 * MINUTE
    rate.settle(10**12, 10**15)
    assert rate.ready_in(1, 0.0) < 2 * MINUTE


def test_what_was_not_used_is_given_back_and_what_was_used_beyond_is_taken() -> None:
    rate = Rate(6000, now=0.0)
    rate.take(300)
    rate.settle(300, 10)
    assert rate.ready_in(290, 0.0) == 0
    rate.settle(10, 400)
    assert rate.ready_in(1, 0.0) > 0


@given(
    per_minute=st.integers(1, 400),
    pauses=st.lists(st.floats(0, 20), min_size=1, max_size=300),
)
def test_no_minute_sees_more_than_the_amount(per_minute: int, pauses: list[float]) -> None:
    rate, now, taken = Rate(per_minute, now=0.0), 0.0, []
    for pause in pauses:
        now += pause
        seconds = rate.ready_in(1, now)
        now += seconds
        rate.take(1)
        taken.append(now)
    for first in taken:
        assert sum(first <= at < first + MINUTE - 0.01 for at in taken) <= per_minute


@pytest.mark.parametrize("per_minute", [1, 2, 10, 60, 1000])
def test_a_busy_caller_gets_almost_all_of_it(per_minute: int) -> None:
    rate, now, taken = Rate(per_minute, now=0.0), 0.0, 0
    while now < 10 * MINUTE:
        now += rate.ready_in(1, now)
        rate.take(1)
        taken += 1
    assert taken >= 0.95 * 10 * per_minute
