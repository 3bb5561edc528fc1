"""When the next try starts. Pure arithmetic; the jitter is a hash, so a replay computes the same delay."""

from __future__ import annotations

from hashlib import blake2b

from app.core.events import Failure
from app.core.plan import RetryPolicy

MAX_EXPONENT = 62


def next_delay(
    policy: RetryPolicy, failure: Failure, *, run_id: str, path: str, tries: int, elapsed: float
) -> float | None:
    """Seconds until the next try, or None when there is none.

    `tries` counts the tries made so far (at least 1), `elapsed` the seconds since the first one started.
    Full jitter draws from [0, backoff) as in the AWS Architecture Blog's "Exponential Backoff And
    Jitter"; a callee's `Retry-After` is a floor under the result.
    """
    if tries >= policy.max_attempts or not failure.temporary or failure.error_class not in policy.retry_on:
        return None
    delay = _backoff(policy, tries)
    if policy.jitter == "full":
        delay *= _fraction(f"{run_id}\0{path}\0{tries}")
    delay = max(delay, failure.retry_after or 0.0)
    if policy.max_duration is not None and elapsed + delay > policy.max_duration:
        return None
    return delay


def _backoff(policy: RetryPolicy, tries: int) -> float:
    match policy.backoff:
        case "constant":
            delay = policy.initial_delay
        case "linear":
            delay = policy.initial_delay * tries
        case "exponential":
            delay = policy.initial_delay * float(2 ** min(tries - 1, MAX_EXPONENT))
    return min(delay, policy.max_delay)


def _fraction(seed: str) -> float:
    digest = blake2b(seed.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
