"""What the whole of a run does in situations with a name: pauses, rest, and what comes after the steps."""

from __future__ import annotations

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Child, Loop, Map, Node, Parallel, Plan, RetryPolicy, Wait
from app.core.scheduler import decide, evolve, next_due, quiescent
from app.core.state import RunPhase, RunState, StepStatus, initial_state
from tests.core.play import (
    CANCEL,
    PAUSE,
    PERMANENT,
    RESUME,
    TEMPORARY,
    begin,
    block,
    done,
    failed,
    fold,
    play,
    start,
    started,
)

RETRY = RetryPolicy(max_attempts=2, retry_on=frozenset({"timeout"}), jitter="none")
PLAN = Plan(
    main=block(Node(id="a"), Node(id="b", depends_on=("a",))),
    timeout=60.0,
    on_failure=block(Node(id="tell")),
    finally_=block(Node(id="tidy")),
)
OUT_OF_TIME = e.RunTimeoutReached(at=60.0)


# --- on_failure and finally ---------------------------------------------------------------------------


def test_a_run_that_never_started_has_nothing_to_tidy_up() -> None:
    state = initial_state("r", PLAN)
    assert fold(state, e.RunSubmitted(at=0.0), CANCEL) == [c.FinishRun(outcome="cancelled")]
    fold(state, e.RunCancelled(at=1.0))
    assert set(state.steps) == {"a", "b"}


def test_a_failed_run_tells_and_tidies_up_and_names_its_first_failure() -> None:
    state = play(PLAN)
    assert fold(state, *failed("a")) == [start("on_failure.tell")]
    assert fold(state, *failed("on_failure.tell")) == [start("finally.tidy")]
    finish = c.FinishRun(outcome="failed", path="a", failure=PERMANENT)
    assert fold(state, *done("finally.tidy")) == [finish]


def test_a_cancelled_run_tidies_up_but_does_not_tell() -> None:
    state = play(PLAN, started("a"))
    fold(state, CANCEL)
    cancelled = e.AttemptCancelled(path="a", attempt=1, at=1.0)
    assert fold(state, cancelled) == [start("finally.tidy")]
    assert fold(state, *done("finally.tidy")) == [c.FinishRun(outcome="cancelled")]


def test_a_run_that_took_too_long_tells_and_tidies_up() -> None:
    state = play(PLAN, started("a"))
    fold(state, OUT_OF_TIME)
    cancelled = e.AttemptCancelled(path="a", attempt=1, at=60.0)
    assert fold(state, cancelled) == [start("on_failure.tell")]
    assert fold(state, *done("on_failure.tell")) == [start("finally.tidy")]
    assert fold(state, *done("finally.tidy")) == [c.FinishRun(outcome="timed_out")]


def test_a_run_whose_tidying_fails_has_failed() -> None:
    state = play(PLAN, *done("a"), *done("b"))
    finish = c.FinishRun(outcome="failed", path="finally.tidy", failure=PERMANENT)
    assert fold(state, *failed("finally.tidy")) == [finish]


def test_a_completed_run_tidies_up_without_a_time_limit() -> None:
    state = play(PLAN)
    assert fold(state, *done("a"), *done("b")) == [start("b"), start("finally.tidy")]
    assert not state.timers
    assert fold(state, *done("finally.tidy")) == [c.FinishRun(outcome="completed")]


def test_a_second_cancellation_aborts_the_tidying_too() -> None:
    state = play(PLAN, started("a"), CANCEL, e.AttemptCancelled(path="a", attempt=1, at=1.0))
    fold(state, started("finally.tidy"))
    assert fold(state, CANCEL) == [c.CancelAttempt(path="finally.tidy", attempt=1)]
    gone = e.AttemptCancelled(path="finally.tidy", attempt=1, at=1.0)
    assert fold(state, gone) == [c.FinishRun(outcome="cancelled")]


def test_a_cancellation_while_a_failed_run_tells_goes_on_to_the_tidying() -> None:
    state = play(PLAN, *failed("a"), started("on_failure.tell"))
    fold(state, CANCEL)
    gone = e.AttemptCancelled(path="on_failure.tell", attempt=1, at=1.0)
    assert fold(state, gone) == [start("finally.tidy")]
    assert fold(state, *done("finally.tidy")) == [c.FinishRun(outcome="cancelled")]


def test_a_cancellation_while_the_outputs_are_made_is_the_end() -> None:
    state = play(Plan(main=block(Node(id="a"))), *done("a"))
    assert fold(state, CANCEL) == [c.FinishRun(outcome="cancelled")]
    fold(state, e.RunCancelled(at=1.0))
    assert state.phase is RunPhase.CANCELLED
    assert state.steps["a"].status is StepStatus.COMPLETED


def test_handlers_may_have_blocks_of_their_own() -> None:
    tidy = Node(id="each", control=Map(body=block(Node(id="in"))))
    state = play(Plan(main=block(Node(id="a")), finally_=block(tidy)))
    assert fold(state, *done("a")) == [c.EnterStep(path="finally.each")]
    counted = e.ItemsCounted(path="finally.each", count=1, at=1.0)
    assert fold(state, counted) == [start("finally.each[0].in")]


# --- pauses -------------------------------------------------------------------------------------------


def test_nothing_starts_in_a_paused_run_and_what_is_in_flight_goes_on() -> None:
    state = begin(
        Node(id="a"),
        Node(id="b", depends_on=("a",)),
        Node(id="wait", depends_on=("a",), control=Wait()),
        Node(id="block", depends_on=("a",), control=Parallel(body=block(Node(id="in")))),
    )
    fold(state, started("a"), PAUSE)
    assert fold(state, e.StepSucceeded(path="a", attempt=1, at=1.0)) == []
    assert fold(state, RESUME) == [c.EnterStep(path="wait"), start("b"), start("block.in")]


def test_a_retry_that_is_due_in_a_pause_waits_for_its_end() -> None:
    state = begin(Node(id="a", retry=RETRY))
    fold(state, *failed("a", failure=TEMPORARY), PAUSE)
    assert fold(state, e.RetryDue(path="a", attempt=2, at=9.0)) == []
    assert fold(state, RESUME) == [start("a", 2)]


def test_a_loop_that_is_checked_in_a_pause_begins_the_next_iteration_after_it() -> None:
    state = begin(Node(id="x", control=Loop(body=block(Node(id="in")), max_iterations=3)))
    fold(state, *done("x[0].in"), PAUSE)
    assert fold(state, e.LoopChecked(path="x", iteration=0, done=False, at=1.0)) == []
    assert fold(state, RESUME) == [start("x[1].in")]


def test_a_run_that_is_paused_before_its_start_begins_nothing() -> None:
    state = initial_state("r", PLAN)
    fold(state, e.RunSubmitted(at=0.0), PAUSE)
    assert fold(state, e.RunStarted(at=1.0)) == [c.StartTimer(timer=c.RunTimer(), due_at=61.0)]
    assert fold(state, RESUME) == [start("a")]


def test_a_paused_run_that_is_cancelled_still_tidies_up() -> None:
    state = play(PLAN, PAUSE)
    assert fold(state, CANCEL) == [start("finally.tidy")]
    assert not state.paused
    assert state.pause_reason is None


def test_a_failed_run_can_be_paused_while_it_tells() -> None:
    state = play(PLAN, started("a"), PAUSE)
    assert fold(state, e.AttemptFailed(path="a", attempt=1, failure=PERMANENT, at=1.0)) == []
    assert fold(state, RESUME) == [start("on_failure.tell")]


def test_a_deferred_try_counts_for_nothing_and_comes_again_after_the_pause() -> None:
    state = begin(Node(id="a", retry=RETRY))
    fold(state, started("a"), PAUSE)
    assert fold(state, e.AttemptDeferred(path="a", attempt=1, at=1.0)) == []
    assert state.steps["a"].tries == 0
    assert fold(state, RESUME) == [start("a", 2)]


# --- rest ---------------------------------------------------------------------------------------------


def commanded(state: RunState, *journal: e.Event) -> list[c.Command]:
    """What is handed over after the journal was folded in one go, as after a crash."""
    for event in journal:
        evolve(state, event)
    return list(decide(state))


def test_a_run_with_a_try_in_flight_or_about_to_start_is_not_at_rest() -> None:
    state = begin(Node(id="a"))
    assert not quiescent(state)
    fold(state, started("a"))
    assert not quiescent(state)


def test_a_run_whose_commands_nobody_took_is_not_at_rest() -> None:
    state = initial_state("r", Plan(main=block(Node(id="x", control=Wait()))))
    evolve(evolve(state, e.RunSubmitted(at=0.0)), e.RunStarted(at=0.0))
    assert not quiescent(state)


def test_a_run_that_waits_for_times_people_and_other_runs_is_at_rest_until_the_earliest() -> None:
    state = begin(
        Node(id="wait", control=Wait()),
        Node(id="ask", control=Approval(), timeout=50.0),
        Node(id="call", control=Child(), timeout=70.0),
    )
    fold(
        state,
        e.WaitStarted(path="wait", due_at=99.0, at=0.0),
        e.ApprovalRequested(path="ask", approval_id="1", at=0.0),
        e.ChildStarted(path="call", run_id="other", at=0.0),
    )
    assert quiescent(state)
    assert next_due(state) == 50.0
    fold(state, e.RunParked(wake_at=50.0, at=1.0))
    assert not quiescent(state)


def test_a_paused_run_with_nothing_in_flight_is_at_rest() -> None:
    state = play(Plan(main=block(Node(id="a", conditional=True))), PAUSE)
    fold(state, e.ConditionEvaluated(path="a", passed=True, at=1.0))
    assert quiescent(state)
    assert next_due(state) is None


def test_a_parked_run_is_told_its_times_and_calls_again_when_it_is_woken() -> None:
    state = initial_state(
        "r", Plan(main=block(Node(id="wait", control=Wait()), Node(id="call", control=Child())))
    )
    assert commanded(
        state,
        e.RunSubmitted(at=0.0),
        e.RunStarted(at=0.0),
        e.WaitStarted(path="wait", due_at=99.0, at=0.0),
        e.ChildStarted(path="call", run_id="other", at=0.0),
        e.RunParked(wake_at=99.0, at=1.0),
        e.RunWoken(at=98.0),
    ) == [
        c.StartTimer(timer=c.WaitTimer(path="wait"), due_at=99.0),
        c.LaunchChild(path="call", run_id="other"),
    ]


def test_after_a_crash_questions_without_an_answer_are_asked_again_and_others_are_not() -> None:
    body = block(Node(id="in"))
    plan = Plan(
        main=block(Node(id="x", control=Loop(body=body, max_iterations=2)), Node(id="y", control=Wait()))
    )
    state = initial_state("r", plan)
    assert commanded(
        state,
        e.RunSubmitted(at=0.0),
        e.RunStarted(at=0.0),
        e.BlockEntered(path="x", at=0.0),
        *done("x[0].in"),
    ) == [c.EnterStep(path="y"), c.CheckLoop(path="x", iteration=0)]
