"""What becomes of a delivery after an attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.services.webhook_decisions import JITTER, DeliveryPolicy, Reply, retry_delay, settled
from tests.stores.samples import NOON
from tests.stores.webhook_samples import a_delivery

POLICY = DeliveryPolicy()


def reply(status_code: int | None = None, **more: object) -> Reply:
    error = None if status_code is not None and status_code < 300 else "answered badly"
    fields = {"at": NOON, "seconds": 0.1, "status_code": status_code, "error": error, **more}
    return Reply(**fields)  # type: ignore[arg-type]  # fields by name


def test_the_last_failed_attempt_ends_it() -> None:
    delivery = a_delivery(tries=POLICY.max_attempts - 1)
    after = settled(delivery, reply(500), POLICY, now=NOON).delivery
    assert (after.status, after.next_attempt_at, after.finished_at) == ("dead", None, NOON)
    before = settled(replace(delivery, tries=0), reply(500), POLICY, now=NOON).delivery
    assert before.status == "pending"


def test_what_cannot_succeed_is_not_tried_again() -> None:
    after = settled(a_delivery(), reply(error="not allowed", permanent=True), POLICY, now=NOON)
    assert after.delivery.status == "dead"
    assert after.disable is None


def test_gone_ends_it_and_disables_the_endpoint() -> None:
    outcome = settled(a_delivery(), reply(410), POLICY, now=NOON)
    assert outcome.delivery.status == "dead"
    assert outcome.disable is not None


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
def test_every_other_failure_is_tried_again_later(status: int) -> None:
    after = settled(a_delivery(), reply(status), POLICY, now=NOON).delivery
    assert (after.status, after.tries, after.finished_at) == ("pending", 1, None)
    assert after.next_attempt_at == NOON + retry_delay(after, POLICY)
    assert after.attempts[-1].status_code == status


def test_two_hundred_and_some_is_a_delivery() -> None:
    for status in (200, 202, 204):
        after = settled(a_delivery(), reply(status), POLICY, now=NOON).delivery
        assert (after.status, after.next_attempt_at, after.finished_at) == ("delivered", None, NOON)
        assert after.attempts[0].error is None


def test_a_receiver_that_asks_for_more_time_gets_it_and_not_less() -> None:
    patient = settled(a_delivery(), reply(503, retry_after=1000.0), POLICY, now=NOON).delivery
    assert patient.next_attempt_at == NOON + 1000
    hasty = settled(a_delivery(), reply(503, retry_after=0.0), POLICY, now=NOON).delivery
    assert hasty.next_attempt_at == NOON + retry_delay(hasty, POLICY)


def test_delays_grow_to_a_day_and_scatter() -> None:
    delays = [retry_delay(a_delivery(tries=tries), POLICY) for tries in range(1, 8)]
    for delay, planned in zip(delays, [5, 25, 125, 625, 3125, 15625, 78125], strict=True):
        assert planned * (1 - JITTER) <= delay <= planned * (1 + JITTER)
    assert retry_delay(a_delivery(tries=5000), POLICY) <= POLICY.max_retry_seconds * (1 + JITTER)
    others = {retry_delay(a_delivery(f"msg_{n}", tries=1), POLICY) for n in range(20)}
    assert len(others) == 20


def test_the_log_keeps_the_latest_attempts_only() -> None:
    delivery = a_delivery()
    for number in range(30):
        outcome = settled(delivery, reply(500, at=NOON + number), POLICY, now=NOON)
        delivery = replace(outcome.delivery, tries=0)
    assert [attempt.at for attempt in delivery.attempts] == [NOON + n for n in range(10, 30)]
