"""What the scheduler does in situations with a name."""

from __future__ import annotations

import pytest

from app.core import commands as c
from app.core import events as e
from app.core.attempts import MAX_LOST
from app.core.plan import Block, Node, Plan, RetryPolicy
from app.core.scheduler import decide, evolve
from app.core.state import RunPhase, RunState, StepStatus, initial_state
from app.core.transitions import InvalidTransition

TEMPORARY = e.Failure(error_class="timeout", message="slow", temporary=True)
PERMANENT = e.Failure(error_class="invalid_request", message="wrong")


def started(*nodes: Node, max_concurrency: int = 64, timeout: float | None = None) -> RunState:
    state = initial_state(
        "r", Plan(main=Block(nodes=nodes), max_concurrency=max_concurrency, timeout=timeout)
    )
    evolve(state, e.RunSubmitted(at=0.0))
    return evolve(state, e.RunStarted(at=0.0))


def commands(state: RunState) -> list[c.Command]:
    return list(decide(state))


def start(state: RunState, path: str, attempt: int = 1, at: float = 0.0) -> None:
    evolve(state, e.AttemptStarted(path=path, attempt=attempt, at=at))


def test_a_run_that_was_not_submitted_cannot_start() -> None:
    state = initial_state("r", Plan(main=Block(nodes=(Node(id="a"),))))
    with pytest.raises(InvalidTransition, match="the run is None"):
        evolve(state, e.RunStarted(at=0.0))


def test_an_ended_run_takes_no_further_event() -> None:
    state = started(Node(id="a"))
    evolve(state, e.CancelRequested(reason=None, at=1.0))
    evolve(state, e.RunCancelled(at=1.0))
    with pytest.raises(InvalidTransition):
        evolve(state, e.CancelRequested(reason=None, at=2.0))
    assert state.phase is RunPhase.CANCELLED


def test_news_of_an_attempt_that_is_not_the_current_one_is_impossible() -> None:
    state = started(Node(id="a"))
    start(state, "a")
    with pytest.raises(InvalidTransition, match="attempt 2"):
        evolve(state, e.StepSucceeded(path="a", attempt=2, at=1.0))


def test_roots_start_at_once_and_dependents_after_all_their_dependencies() -> None:
    state = started(Node(id="a"), Node(id="b"), Node(id="c", depends_on=("a", "b")))
    assert commands(state) == [c.StartAttempt(path="a", attempt=1), c.StartAttempt(path="b", attempt=1)]
    start(state, "a")
    start(state, "b")
    evolve(state, e.StepSucceeded(path="a", attempt=1, at=1.0))
    assert commands(state) == []
    evolve(state, e.StepSucceeded(path="b", attempt=1, at=2.0))
    assert commands(state) == [c.StartAttempt(path="c", attempt=1)]


def test_commands_are_handed_over_once() -> None:
    state = started(Node(id="a"))
    assert len(commands(state)) == 1
    assert commands(state) == []


def test_no_more_attempts_are_commanded_than_the_run_may_have_in_flight() -> None:
    state = started(*(Node(id=f"s{n}") for n in range(5)), max_concurrency=2)
    assert [command.path for command in commands(state) if isinstance(command, c.StartAttempt)] == [
        "s0",
        "s1",
    ]
    start(state, "s0")
    start(state, "s1")
    evolve(state, e.StepSucceeded(path="s1", attempt=1, at=1.0))
    assert commands(state) == [c.StartAttempt(path="s2", attempt=1)]


def test_a_failed_step_blocks_its_dependents_and_theirs_and_runs_its_handler() -> None:
    state = started(
        Node(id="a"),
        Node(id="b", depends_on=("a",)),
        Node(id="c", depends_on=("b",)),
        Node(id="handler", depends_on=("c",), run_on="failure"),
    )
    start(state, "a")
    evolve(state, e.AttemptFailed(path="a", attempt=1, failure=PERMANENT, at=1.0))
    for _ in range(3):
        for command in commands(state):
            if isinstance(command, c.Record):
                evolve(state, command.event)
    assert state.steps["b"].skip_reason == state.steps["c"].skip_reason == "upstream_failed"
    assert commands(state) == [c.StartAttempt(path="handler", attempt=1)]


def test_an_attempt_that_takes_too_long_is_aborted_and_tried_again() -> None:
    node = Node(
        id="a", timeout=5.0, retry=RetryPolicy(max_attempts=2, retry_on=frozenset({"timeout"}), jitter="none")
    )
    state = started(node)
    commands(state)
    start(state, "a")
    assert commands(state) == [c.StartTimer(timer=c.AttemptTimer(path="a", attempt=1), due_at=5.0)]
    evolve(state, e.AttemptTimedOut(path="a", attempt=1, at=5.0))
    scheduled = e.RetryScheduled(path="a", attempt=2, due_at=6.0, at=5.0)
    assert commands(state) == [c.Record(event=scheduled), c.CancelAttempt(path="a", attempt=1)]
    evolve(state, scheduled)
    assert state.steps["a"].status is StepStatus.RETRYING
    assert commands(state) == [c.StartTimer(timer=c.RetryTimer(path="a", attempt=2), due_at=6.0)]


def test_a_failure_with_a_stand_in_completes_the_step() -> None:
    state = started(Node(id="a", continues=True), Node(id="b", depends_on=("a",)))
    start(state, "a")
    commands(state)
    evolve(state, e.AttemptFailed(path="a", attempt=1, failure=PERMANENT, at=1.0))
    assert commands(state) == [c.RecoverStep(path="a", failure=PERMANENT)]
    evolve(state, e.StepRecovered(path="a", failure=PERMANENT, at=1.0))
    assert state.steps["a"].recovered
    assert commands(state) == [c.StartAttempt(path="b", attempt=1)]


def test_cancellation_aborts_what_is_in_flight_and_ends_when_nothing_is() -> None:
    state = started(Node(id="a"), Node(id="b", depends_on=("a",)))
    start(state, "a")
    commands(state)
    evolve(state, e.CancelRequested(reason="enough", at=1.0))
    assert commands(state) == [c.CancelAttempt(path="a", attempt=1)]
    evolve(state, e.AttemptCancelled(path="a", attempt=1, at=1.1))
    assert commands(state) == [c.FinishRun(outcome="cancelled")]
    evolve(state, e.RunCancelled(at=1.2))
    assert state.steps["b"].status is StepStatus.CANCELLED


def test_a_queued_run_is_cancelled_without_having_started() -> None:
    state = initial_state("r", Plan(main=Block(nodes=(Node(id="a"),))))
    evolve(state, e.RunSubmitted(at=0.0))
    evolve(state, e.CancelRequested(reason=None, at=1.0))
    assert commands(state) == [c.FinishRun(outcome="cancelled")]


def test_a_success_that_raced_the_cancellation_is_kept_but_starts_nothing() -> None:
    state = started(Node(id="a"), Node(id="b", depends_on=("a",)))
    start(state, "a")
    evolve(state, e.CancelRequested(reason=None, at=1.0))
    evolve(state, e.StepSucceeded(path="a", attempt=1, at=1.0))
    assert state.steps["a"].status is StepStatus.COMPLETED
    assert commands(state) == [c.FinishRun(outcome="cancelled")]


def test_a_run_that_takes_too_long_ends_as_timed_out() -> None:
    state = started(Node(id="a"), timeout=10.0)
    assert c.StartTimer(timer=c.RunTimer(), due_at=10.0) in commands(state)
    start(state, "a")
    evolve(state, e.RunTimeoutReached(at=10.0))
    evolve(state, e.AttemptCancelled(path="a", attempt=1, at=10.0))
    assert commands(state) == [c.FinishRun(outcome="timed_out")]


def test_the_submissions_own_timeout_goes_before_the_workflows() -> None:
    state = initial_state("r", Plan(main=Block(nodes=(Node(id="a"),)), timeout=10.0))
    evolve(state, e.RunSubmitted(at=0.0))
    evolve(state, e.RunStarted(at=0.0, timeout=3.0))
    assert c.StartTimer(timer=c.RunTimer(), due_at=3.0) in commands(state)


def test_a_lost_attempt_is_repeated_and_not_counted_as_a_try() -> None:
    state = started(Node(id="a"))
    start(state, "a")
    commands(state)
    evolve(state, e.AttemptLost(path="a", attempt=1, at=1.0))
    assert state.steps["a"].tries == 0
    assert commands(state) == [c.StartAttempt(path="a", attempt=2)]


def test_a_lost_attempt_that_must_not_repeat_ends_as_outcome_unknown() -> None:
    state = started(Node(id="a", repeatable=False))
    start(state, "a")
    commands(state)
    evolve(state, e.AttemptLost(path="a", attempt=1, at=1.0))
    (command,) = commands(state)
    assert isinstance(command, c.Record)
    assert isinstance(command.event, e.StepFailed)
    assert command.event.failure.error_class == "outcome_unknown"


def test_a_step_that_kills_the_process_again_and_again_is_given_up() -> None:
    state = started(Node(id="a"))
    for attempt in range(1, MAX_LOST + 1):
        commands(state)
        start(state, "a", attempt)
        evolve(state, e.AttemptLost(path="a", attempt=attempt, at=1.0))
    (command,) = commands(state)
    assert isinstance(command, c.Record)
    assert isinstance(command.event, e.StepFailed)


def test_folding_again_after_a_crash_hands_over_what_nobody_answered() -> None:
    journal: list[e.Event] = [
        e.RunSubmitted(at=0.0),
        e.RunStarted(at=0.0),
        e.AttemptStarted(path="a", attempt=1, at=0.0),
        e.StepSucceeded(path="a", attempt=1, at=1.0),
    ]
    state = initial_state(
        "r", Plan(main=Block(nodes=(Node(id="a"), Node(id="b", depends_on=("a",), conditional=True))))
    )
    for event in journal:
        evolve(state, event)
    assert commands(state) == [c.EvaluateCondition(path="b")]


def test_ten_thousand_steps_in_a_chain_of_skips_cost_no_recursion() -> None:
    nodes = [Node(id="s0", conditional=True)]
    nodes += [Node(id=f"s{n}", depends_on=(f"s{n - 1}",)) for n in range(1, 10_000)]
    state = started(*nodes)
    commands(state)
    evolve(state, e.ConditionEvaluated(path="s0", passed=False, at=0.0))
    while records := [command for command in commands(state) if isinstance(command, c.Record)]:
        for record in records:
            evolve(state, record.event)
    assert state.root.open_steps == 0
