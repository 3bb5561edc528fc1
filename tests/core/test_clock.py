"""A clock that somebody set: what is due after a time moves with it, what the calendar says does not."""

from __future__ import annotations

import pytest

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Node, Plan, RetryPolicy, Wait
from app.core.scheduler import evolve, next_due
from app.core.state import RunState, initial_state
from app.core.transitions import InvalidTransition
from tests.core.play import TEMPORARY, begin, block, failed, fold, play

CLASSES = frozenset({TEMPORARY.error_class})
BACK = e.ClockMoved(by=-3600.0, at=-3590.0)


def waiting(*, instant: bool) -> RunState:
    state = begin(Node(id="x", control=Wait()))
    fold(state, e.WaitStarted(path="x", due_at=9.0, at=0.0, instant=instant))
    return state


def test_a_run_that_was_not_begun_has_no_times_to_move() -> None:
    state = initial_state("r", Plan(main=block(Node(id="x"))))
    evolve(state, e.RunSubmitted(at=0.0))
    with pytest.raises(InvalidTransition):
        evolve(state, BACK)


def test_a_wait_until_an_instant_stands() -> None:
    state = waiting(instant=True)
    assert fold(state, BACK) == []
    assert next_due(state) == 9.0


def test_a_wait_of_some_seconds_moves_and_timers_that_run_are_not_started_again() -> None:
    state = waiting(instant=False)
    assert fold(state, BACK) == []
    assert next_due(state) == 9.0 - 3600.0
    control = state.steps["x"].control
    assert control is not None
    assert control.due_at == 9.0 - 3600.0


def test_the_next_try_and_the_bound_of_the_run_move() -> None:
    policy = RetryPolicy(max_attempts=2, initial_delay=5.0, jitter="none", retry_on=CLASSES)
    state = play(Plan(main=block(Node(id="x", retry=policy)), timeout=60.0), *failed("x", failure=TEMPORARY))
    assert state.steps["x"].retry_at == 6.0
    fold(state, BACK)
    assert state.steps["x"].retry_at == 6.0 - 3600.0
    assert sorted(state.timers.values()) == [6.0 - 3600.0, 60.0 - 3600.0]


def test_a_timer_that_is_still_to_be_started_starts_for_the_moved_time() -> None:
    state = begin(Node(id="x", control=Approval(on_timeout="reject"), timeout=60.0))
    evolve(state, e.ApprovalRequested(path="x", approval_id="1", at=0.0))
    timers = [command for command in fold(state, BACK) if isinstance(command, c.StartTimer)]
    assert [timer.due_at for timer in timers] == [60.0 - 3600.0]
