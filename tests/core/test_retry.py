"""The delay before the next try."""

from __future__ import annotations

import pytest

from app.core.events import Failure
from app.core.plan import Backoff, RetryPolicy
from app.core.retry import next_delay

RATE_LIMIT = Failure(error_class="rate_limit", message="slow down", temporary=True)


def policy(**changes: object) -> RetryPolicy:
    values: dict[str, object] = {
        "max_attempts": 5,
        "initial_delay": 1.0,
        "max_delay": 8.0,
        "jitter": "none",
        "retry_on": frozenset({"rate_limit"}),
    }
    return RetryPolicy(**{**values, **changes})  # type: ignore[arg-type]  # a table of keyword arguments


def delay(
    policy: RetryPolicy, tries: int, failure: Failure = RATE_LIMIT, elapsed: float = 0.0
) -> float | None:
    return next_delay(policy, failure, run_id="r", path="p", tries=tries, elapsed=elapsed)


@pytest.mark.parametrize(
    ("failure", "tries"),
    [
        (Failure(error_class="rate_limit", message="", temporary=False), 1),
        (Failure(error_class="timeout", message="", temporary=True), 1),
        (RATE_LIMIT, 5),
        (RATE_LIMIT, 6),
    ],
    ids=["permanent", "class not named", "last try used", "more than that"],
)
def test_no_further_try(failure: Failure, tries: int) -> None:
    assert delay(policy(), tries, failure) is None


def test_no_try_starts_after_the_maximum_duration() -> None:
    assert delay(policy(max_duration=10.0), 1, elapsed=9.5) is None
    assert delay(policy(max_duration=10.0), 1, elapsed=9.0) == 1.0


@pytest.mark.parametrize(
    ("backoff", "expected"),
    [("constant", [1, 1, 1, 1]), ("linear", [1, 2, 3, 4]), ("exponential", [1, 2, 4, 8])],
)
def test_backoff_grows_as_named(backoff: Backoff, expected: list[float]) -> None:
    assert [delay(policy(backoff=backoff), tries) for tries in range(1, 5)] == expected


def test_backoff_is_capped_even_after_absurdly_many_tries() -> None:
    assert delay(policy(max_attempts=10**9), 10**6) == 8.0


def test_full_jitter_spreads_below_the_backoff_and_repeats_exactly() -> None:
    jittered = policy(jitter="full", max_delay=1.0, max_attempts=10**6)
    delays = [delay(jittered, tries) for tries in range(1, 400)]
    assert delays == [delay(jittered, tries) for tries in range(1, 400)]
    known = [value for value in delays if value is not None]
    assert len(known) == 399
    assert 0.0 <= min(known) < 0.1
    assert 0.9 < max(known) < 1.0


@pytest.mark.parametrize(("retry_after", "expected"), [(0.5, 1.0), (20.0, 20.0), (None, 1.0)])
def test_retry_after_is_a_floor(retry_after: float | None, expected: float) -> None:
    failure = Failure(error_class="rate_limit", message="", temporary=True, retry_after=retry_after)
    assert delay(policy(), 1, failure) == expected
