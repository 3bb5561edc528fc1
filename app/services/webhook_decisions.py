"""What becomes of a delivery after an attempt: pure functions, and the policy they follow.

A 2xx answer is a delivery. 410 says that nobody listens any more: the endpoint is disabled. Everything else
is tried again, later and later, until the last attempt has failed; then the delivery is dead until somebody
asks for it again. Jitter is a hash, so that a decision is the same whenever it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from http import HTTPStatus
from typing import Final

from app.ports.webhooks import MOST_ATTEMPTS_KEPT, Delivery, DeliveryOutcome, SendAttempt

DAY: Final = 86_400.0
JITTER: Final = 0.25
"""A delay is as much shorter or longer than planned at most."""
GONE: Final = "the receiver answered 410 Gone; enable it again when it listens"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How hard to try. The delay after attempt n is `retry_seconds * retry_factor ** (n - 1)`."""

    max_attempts: int = 8
    retry_seconds: float = 5.0
    retry_factor: float = 5.0
    max_retry_seconds: float = DAY
    timeout_seconds: float = 15.0
    concurrency: int = 64
    """Deliveries in hand at once."""
    concurrency_per_target: int = 8
    max_output_bytes: int = 64 * 1024
    keep_seconds: float = 30 * DAY
    """How long the log keeps what has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an attempt met. `error` None: it was taken. `permanent`: trying again cannot help."""

    at: float
    seconds: float
    status_code: int | None = None
    error: str | None = None
    retry_after: float | None = None
    permanent: bool = False


def settled(delivery: Delivery, reply: Reply, policy: DeliveryPolicy, *, now: float) -> DeliveryOutcome:
    """The delivery after an attempt that ended `now`."""
    attempt = SendAttempt(
        at=reply.at, seconds=reply.seconds, status_code=reply.status_code, error=reply.error
    )
    after = replace(
        delivery,
        tries=delivery.tries + 1,
        attempts=(*delivery.attempts, attempt)[-MOST_ATTEMPTS_KEPT:],
        next_attempt_at=None,
        finished_at=now,
    )
    if reply.error is None:
        return DeliveryOutcome(delivery=replace(after, status="delivered"))
    if reply.status_code == HTTPStatus.GONE:
        return DeliveryOutcome(delivery=replace(after, status="dead"), disable=GONE)
    if reply.permanent or after.tries >= policy.max_attempts:
        return DeliveryOutcome(delivery=replace(after, status="dead"))
    delay = max(retry_delay(after, policy), reply.retry_after or 0.0)
    return DeliveryOutcome(delivery=replace(after, next_attempt_at=now + delay, finished_at=None))


def retry_delay(delivery: Delivery, policy: DeliveryPolicy) -> float:
    """Seconds until the next attempt, after `delivery.tries` of them."""
    try:
        planned = policy.retry_seconds * policy.retry_factor ** (delivery.tries - 1)
    except OverflowError:
        planned = policy.max_retry_seconds
    about = 1.0 + JITTER * (2.0 * _fraction(delivery) - 1.0)
    return min(planned, policy.max_retry_seconds) * about


def _fraction(delivery: Delivery) -> float:
    """From 0 to 1, the same for the same attempt."""
    mark = f"{delivery.endpoint_id}:{delivery.id}:{delivery.round}:{delivery.tries}"
    return int.from_bytes(sha256(mark.encode()).digest()[:6], "big") / 2**48
