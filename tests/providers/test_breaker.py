"""The circuit breaker as a state machine: when it opens, whom it lets through, and that nothing hangs it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.providers.breaker import Breaker, BreakerPolicy

POLICY = BreakerPolicy(
    window_seconds=30, min_calls=10, failure_ratio=0.5, open_seconds=5, max_open_seconds=40, probe_seconds=8
)


def told(breaker: Breaker, now: float, *, failures: int = 0, successes: int = 0) -> None:
    """That many calls at one moment, the failures last."""
    for _ in range(successes):
        breaker.succeeded(admitted(breaker, now), now)
    for _ in range(failures):
        breaker.failed(admitted(breaker, now), now)


def admitted(breaker: Breaker, now: float) -> int:
    ticket = breaker.admit(now)
    assert ticket is not None
    return ticket


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker(POLICY)
    told(breaker, now, failures=10)
    return breaker


# --- opening ------------------------------------------------------------------------------------------


def test_it_refuses_every_call_until_its_time_is_up() -> None:
    breaker = opened(100.0)
    assert breaker.state(100.0) == "open"
    assert breaker.admit(100.0) is None
    assert breaker.admit(104.9) is None
    assert breaker.retry_after(102.0) == 3.0
    assert breaker.state(105.0) == "half_open"
    assert breaker.retry_after(105.0) == 0


def test_a_few_calls_open_nothing() -> None:
    breaker = Breaker(POLICY)
    told(breaker, 100.0, failures=9)
    assert breaker.state(100.0) == "closed"


@pytest.mark.parametrize(("successes", "failures", "state"), [(11, 10, "closed"), (10, 10, "open")])
def test_it_opens_at_the_ratio(successes: int, failures: int, state: str) -> None:
    breaker = Breaker(POLICY)
    told(breaker, 100.0, successes=successes, failures=failures)
    assert breaker.state(100.0) == state


def test_what_has_left_the_window_counts_no_more() -> None:
    breaker = Breaker(POLICY)
    told(breaker, 100.0, failures=9)
    told(breaker, 131.0, failures=9)
    assert breaker.state(131.0) == "closed"
    told(breaker, 150.0, failures=1)
    assert breaker.state(150.0) == "open"


def test_a_long_pause_empties_the_window() -> None:
    breaker = Breaker(POLICY)
    told(breaker, 100.0, failures=9)
    told(breaker, 1_000_000.0, failures=9)
    assert breaker.state(1_000_000.0) == "closed"


def test_calls_from_before_it_opened_have_no_say_any_more() -> None:
    breaker = Breaker(POLICY)
    early = [admitted(breaker, 100.0) for _ in range(3)]
    told(breaker, 100.0, failures=10)
    assert not breaker.succeeded(early[0], 101.0)
    assert not breaker.failed(early[1], 104.0)
    assert breaker.retry_after(104.0) == 1.0
    breaker.succeeded(admitted(breaker, 105.0), 105.0)
    assert not breaker.failed(early[2], 105.0)


# --- probing ------------------------------------------------------------------------------------------


def test_one_probe_at_a_time_is_let_through() -> None:
    breaker = opened()
    assert admitted(breaker, 105.0) < 0
    assert breaker.admit(105.0) is None
    assert breaker.state(105.0) == "half_open"
    assert 0 < breaker.retry_after(105.0) <= POLICY.open_seconds


def test_a_probe_that_succeeds_closes_it_with_an_empty_window() -> None:
    breaker = opened()
    assert breaker.succeeded(admitted(breaker, 105.0), 106.0)
    assert breaker.state(106.0) == "closed"
    told(breaker, 106.0, failures=9)
    assert breaker.state(106.0) == "closed"


def test_probes_that_fail_double_its_time_up_to_the_longest() -> None:
    breaker, now = opened(100.0), 105.0
    spells = []
    for _ in range(6):
        assert breaker.failed(admitted(breaker, now), now)
        spells.append(breaker.open_for)
        now += breaker.open_for
    assert spells == [10, 20, 40, 40, 40, 40]
    breaker.succeeded(admitted(breaker, now), now)
    told(breaker, now, failures=10)
    assert breaker.open_for == 5


def test_a_cancelled_probe_makes_room_at_once() -> None:
    breaker = opened()
    breaker.dropped(admitted(breaker, 105.0))
    assert admitted(breaker, 105.0) < 0


def test_a_probe_that_hangs_makes_room_in_time() -> None:
    breaker = opened()
    first = admitted(breaker, 105.0)
    assert breaker.admit(112.9) is None
    second = admitted(breaker, 113.0)
    assert not breaker.failed(first, 114.0)
    breaker.dropped(first)
    assert breaker.admit(114.0) is None
    assert breaker.succeeded(second, 115.0)


def test_a_late_success_closes_it_all_the_same() -> None:
    breaker = opened()
    first = admitted(breaker, 105.0)
    second = admitted(breaker, 113.0)
    assert breaker.succeeded(first, 114.0)
    assert breaker.state(114.0) == "closed"
    assert not breaker.failed(second, 115.0)
    assert breaker.state(115.0) == "closed"


# --- at random ----------------------------------------------------------------------------------------


class Anything(RuleBasedStateMachine):
    """Calls begin and end in any order, at any time, in any way; some never end."""

    @initialize()
    def start(self) -> None:
        self.now = 1000.0
        self.breaker = Breaker(POLICY)
        self.under_way: list[int] = []
        self.probes: dict[int, float] = {}
        """Probes that may still be waited for, and until when."""

    @rule(seconds=st.one_of(st.floats(0, 3), st.floats(0, 100)))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(times=st.integers(1, 12))
    def begin(self, times: int) -> None:
        for _ in range(times):
            state = self.breaker.state(self.now)
            waits = any(self.now < until for until in self.probes.values())
            ticket = self.breaker.admit(self.now)
            assert (ticket is None) == (state == "open" or (state == "half_open" and waits))
            if ticket is None:
                assert self.breaker.retry_after(self.now) > 0
                continue
            assert (ticket < 0) == (state == "half_open")
            if ticket < 0:
                self.probes[ticket] = self.now + POLICY.probe_seconds
            self.under_way.append(ticket)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "failed", "dropped"]))
    def end(self, data: st.DataObject, how: str) -> None:
        ticket = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        self.finish(ticket, how)

    @precondition(lambda self: self.under_way)
    @rule(how=st.sampled_from(["succeeded", "failed"]))
    def end_all(self, how: str) -> None:
        while self.under_way:
            self.finish(self.under_way.pop(), how)

    def finish(self, ticket: int, how: str) -> None:
        before = self.breaker.state(self.now)
        if how == "dropped":
            self.breaker.dropped(ticket)
            assert self.breaker.state(self.now) == before
        elif how == "failed":
            changed = self.breaker.failed(ticket, self.now)
            assert changed == (self.breaker.state(self.now) == "open" and before != "open")
        else:
            self.breaker.succeeded(ticket, self.now)
            if ticket < 0:
                assert self.breaker.state(self.now) == "closed"
        self.probes.pop(ticket, None)
        if self.breaker.state(self.now) == "closed":
            self.probes.clear()

    @invariant()
    def at_most_one_probe_is_waited_for(self) -> None:
        assert sum(self.now < until for until in self.probes.values()) <= 1

    @invariant()
    def it_rests_within_bounds(self) -> None:
        assert 0 <= self.breaker.retry_after(self.now) <= POLICY.max_open_seconds
        assert (self.breaker.state(self.now) == "closed") == self.breaker.closed

    def teardown(self) -> None:
        """Whatever happened: after the longest rest a call gets through, and its success closes it."""
        self.now += POLICY.max_open_seconds + POLICY.probe_seconds
        ticket = self.breaker.admit(self.now)
        assert ticket is not None
        self.breaker.succeeded(ticket, self.now)
        assert self.breaker.state(self.now) == "closed"


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=150, stateful_step_count=40)
