"""What each kind of control step does in situations with a name."""

from __future__ import annotations

import pytest

from app.core import commands as c
from app.core import events as e
from app.core.plan import (
    Approval,
    Branch,
    Child,
    Control,
    Loop,
    Map,
    Node,
    OnItemError,
    OnTimeout,
    Parallel,
    Wait,
)
from app.core.state import RunPhase, StepStatus
from tests.core.play import CANCEL, PERMANENT, begin, block, done, failed, fold, start, started

IN = block(Node(id="in"))
TIMED_OUT = e.BlockTimedOut(path="x", at=5.0)
CHOSEN = e.BranchChosen(path="x", case="a", at=1.0)
CALLED = e.ChildStarted(path="x", run_id="other", at=1.0)
COLLECT = c.CollectBlock(path="x")
NOT_EVALUATED = e.EvaluationFailed(path="x", failure=PERMANENT, at=1.0)


def counted(count: int) -> e.Event:
    return e.ItemsCounted(path="x", count=count, at=1.0)


def checked(iteration: int, *, done: bool) -> e.Event:
    return e.LoopChecked(path="x", iteration=iteration, done=done, at=1.0)


def x(control: Control, *, timeout: float | None = None, continues: bool = False) -> Node:
    return Node(id="x", control=control, timeout=timeout, continues=continues)


# --- every kind ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("control", [Branch(cases={}), Map(body=IN), Child(), Wait(), Approval()])
def test_a_step_that_cannot_make_out_what_it_begins_with_fails(control: Control) -> None:
    state = begin(x(control))
    (finish,) = fold(state, NOT_EVALUATED)
    assert finish == c.FinishRun(outcome="failed", path="x", failure=PERMANENT)


def test_outputs_that_cannot_be_put_together_fail_the_step() -> None:
    state = begin(x(Parallel(body=IN)))
    assert fold(state, *done("x.in")) == [COLLECT]
    fold(state, NOT_EVALUATED)
    assert state.steps["x"].status is StepStatus.FAILED


def test_a_failure_within_is_that_of_the_step_and_names_what_failed() -> None:
    state = begin(x(Parallel(body=IN)), Node(id="after", depends_on=("x",)))
    (finish,) = fold(state, *failed("x.in"))
    outer = state.steps["x"].failure
    assert outer is not None
    assert (outer.error_class, outer.message) == ("invalid_request", "'x.in' failed: wrong")
    assert state.steps["after"].skip_reason == "upstream_failed"
    assert finish == c.FinishRun(outcome="failed", path="x.in", failure=PERMANENT)


def test_a_failure_within_is_recovered_from_where_the_step_has_a_stand_in() -> None:
    state = begin(x(Parallel(body=IN), continues=True), Node(id="after", depends_on=("x",)))
    (recover,) = fold(state, *failed("x.in"))
    assert isinstance(recover, c.RecoverStep)
    assert fold(state, e.StepRecovered(path="x", failure=recover.failure, at=1.0)) == [start("after")]


def test_a_stand_in_that_cannot_be_made_fails_the_step() -> None:
    state = begin(x(Parallel(body=IN), continues=True))
    fold(state, *failed("x.in"), e.StepFailed(path="x", failure=PERMANENT, at=1.0))
    assert state.steps["x"].status is StepStatus.FAILED


def test_a_step_with_a_shut_gate_begins_nothing() -> None:
    state = begin(Node(id="x", conditional=True, control=Parallel(body=IN)))
    fold(state, e.ConditionEvaluated(path="x", passed=False, at=1.0))
    assert state.steps["x"].skip_reason == "condition"
    assert "x.in" not in state.steps


def test_a_step_that_takes_too_long_aborts_what_is_within_and_fails_after_that() -> None:
    body = block(Node(id="in"), Node(id="later", depends_on=("in",)))
    state = begin(x(Parallel(body=body), timeout=5.0), Node(id="after", depends_on=("x",), run_on="failure"))
    fold(state, started("x.in"))
    assert fold(state, TIMED_OUT) == [c.CancelAttempt(path="x.in", attempt=1)]
    assert state.steps["x"].status is StepStatus.STOPPING
    assert state.steps["x.later"].status is StepStatus.CANCELLED
    assert fold(state, e.AttemptCancelled(path="x.in", attempt=1, at=5.0)) == [start("after")]
    failure = state.steps["x"].failure
    assert failure is not None
    assert failure.error_class == "timeout"


def test_a_step_that_takes_too_long_to_begin_fails_at_once() -> None:
    state = begin(x(Map(body=IN), timeout=5.0))
    fold(state, TIMED_OUT)
    assert state.steps["x"].status is StepStatus.FAILED


def test_a_success_that_raced_the_time_out_is_kept_and_starts_nothing() -> None:
    body = block(Node(id="in"), Node(id="later", depends_on=("in",)))
    state = begin(x(Parallel(body=body), timeout=5.0))
    fold(state, started("x.in"), TIMED_OUT, e.StepSucceeded(path="x.in", attempt=1, at=5.0))
    assert state.steps["x.in"].status is StepStatus.COMPLETED
    assert state.steps["x.later"].status is StepStatus.CANCELLED
    assert state.steps["x"].status is StepStatus.FAILED


def test_the_time_of_a_step_runs_from_its_beginning_and_ends_with_it() -> None:
    state = begin(
        Node(id="first"), Node(id="x", depends_on=("first",), control=Parallel(body=IN), timeout=5.0)
    )
    assert c.StartTimer(timer=c.BlockTimer(path="x"), due_at=6.0) in fold(state, *done("first"))
    fold(state, *done("x.in"), e.BlockCompleted(path="x", at=2.0))
    assert not state.timers


def test_a_cancellation_reaches_what_is_deep_within() -> None:
    inner = Map(body=block(Node(id="leaf")))
    state = begin(x(Parallel(body=block(Node(id="each", control=inner), Node(id="call", control=Child())))))
    fold(
        state,
        e.ItemsCounted(path="x.each", count=2, at=1.0),
        e.ChildStarted(path="x.call", run_id="other", at=1.0),
        started("x.each[0].leaf"),
        started("x.each[1].leaf"),
    )
    assert set(fold(state, CANCEL)) == {
        c.CancelAttempt(path="x.each[0].leaf", attempt=1),
        c.CancelAttempt(path="x.each[1].leaf", attempt=1),
        c.CancelChild(path="x.call", run_id="other"),
    }
    gone = [e.AttemptCancelled(path=f"x.each[{n}].leaf", attempt=1, at=1.0) for n in range(2)]
    assert fold(state, *gone) == []
    ended = e.ChildEnded(path="x.call", failure=PERMANENT, at=1.0)
    assert fold(state, ended) == [c.FinishRun(outcome="cancelled")]
    assert all(step.status is StepStatus.CANCELLED for step in state.steps.values())


def test_a_cancellation_during_a_time_out_commands_nothing_twice() -> None:
    state = begin(x(Child(), timeout=5.0))
    assert c.CancelChild(path="x", run_id="other") in fold(state, CALLED, TIMED_OUT)
    assert fold(state, CANCEL) == []
    assert fold(state, e.ChildEnded(path="x", failure=None, at=1.0)) == [c.FinishRun(outcome="cancelled")]


def test_a_control_step_needs_no_slot_of_the_run() -> None:
    state = begin(*(Node(id=f"w{n}", control=Wait()) for n in range(100)))
    assert all(step.status is StepStatus.ENTERING for step in state.steps.values())
    assert state.slots == 0


def test_a_block_of_nothing_is_over_at_once() -> None:
    state = begin(x(Map(body=block(), max_concurrency=2)))
    assert fold(state, counted(10_000)) == [COLLECT]


# --- branch -------------------------------------------------------------------------------------------


def test_a_branch_without_that_case_and_without_a_default_runs_nothing() -> None:
    state = begin(x(Branch(cases={"a": IN})))
    assert fold(state, e.BranchChosen(path="x", case=None, at=1.0)) == [COLLECT]
    assert "x.in" not in state.steps


def test_a_branch_without_that_case_runs_its_default() -> None:
    state = begin(x(Branch(cases={"a": IN}, default=block(Node(id="other")))))
    assert fold(state, e.BranchChosen(path="x", case=None, at=1.0)) == [start("x.other")]


def test_a_branch_runs_the_chosen_case_only() -> None:
    state = begin(x(Branch(cases={"a": IN, "b": block(Node(id="other"))})))
    assert fold(state, CHOSEN) == [start("x.in")]
    assert fold(state, *done("x.in")) == [COLLECT]
    fold(state, e.BlockCompleted(path="x", at=1.0))
    assert state.steps["x"].status is StepStatus.COMPLETED
    assert "x.other" not in state.steps


# --- parallel -----------------------------------------------------------------------------------------


def test_a_failed_step_leaves_the_others_of_its_block_alone() -> None:
    state = begin(x(Parallel(body=block(Node(id="a"), Node(id="b")))))
    assert fold(state, started("x.b"), *failed("x.a")) == []
    fold(state, e.StepSucceeded(path="x.b", attempt=1, at=1.0))
    assert state.steps["x"].status is StepStatus.FAILED


def test_no_more_steps_of_a_block_are_under_way_than_it_allows() -> None:
    body = block(*(Node(id=name) for name in "abc"))
    state = begin(x(Parallel(body=body, max_concurrency=2)))
    assert state.steps["x.c"].status is StepStatus.READY
    fold(state, started("x.a"), started("x.b"))
    assert fold(state, e.StepSucceeded(path="x.b", attempt=1, at=1.0)) == [start("x.c")]


def test_a_control_step_takes_a_turn_like_any_other_and_keeps_it_until_its_end() -> None:
    body = block(Node(id="a", control=Wait()), Node(id="b"))
    state = begin(x(Parallel(body=body, max_concurrency=1)))
    assert fold(state, e.WaitStarted(path="x.a", due_at=9.0, at=1.0)) == [
        c.StartTimer(timer=c.WaitTimer(path="x.a"), due_at=9.0)
    ]
    assert fold(state, e.WaitOver(path="x.a", at=9.0)) == [start("x.b")]


def test_a_step_that_is_skipped_takes_no_turn() -> None:
    body = block(Node(id="a", conditional=True), Node(id="b"))
    state = begin(x(Parallel(body=body, max_concurrency=1)))
    assert state.steps["x.b"].status is StepStatus.STARTING
    fold(state, e.ConditionEvaluated(path="x.a", passed=False, at=1.0))
    assert state.steps["x"].control is not None
    assert state.steps["x.b"].scope.active == 1


# --- map ----------------------------------------------------------------------------------------------


def test_a_map_that_fails_with_an_item_begins_no_further_one_and_lets_the_others_end() -> None:
    state = begin(x(Map(body=IN, max_concurrency=2)))
    assert fold(state, counted(5)) == [start("x[0].in"), start("x[1].in")]
    assert fold(state, started("x[0].in"), *failed("x[1].in")) == []
    fold(state, e.AttemptFailed(path="x[0].in", attempt=1, failure=PERMANENT, at=1.0))
    step = state.steps["x"]
    assert step.status is StepStatus.FAILED
    assert step.cause == ("x[0].in", PERMANENT)
    assert "x[2].in" not in state.steps


@pytest.mark.parametrize("on_item_error", ["continue", "drop"])
def test_a_map_that_goes_on_with_the_others_knows_which_items_failed(on_item_error: OnItemError) -> None:
    state = begin(x(Map(body=IN, max_concurrency=1, on_item_error=on_item_error)))
    fold(state, counted(3))
    assert fold(state, *failed("x[0].in")) == [start("x[1].in")]
    assert fold(state, *done("x[1].in"), *failed("x[2].in")) == [start("x[2].in"), COLLECT]
    control = state.steps["x"].control
    assert control is not None
    assert control.failed == {0: ("x[0].in", PERMANENT), 2: ("x[2].in", PERMANENT)}


def test_a_map_of_no_items_is_over_at_once() -> None:
    state = begin(x(Map(body=IN)))
    assert fold(state, counted(0)) == [COLLECT]


def test_an_item_ends_when_all_its_steps_have() -> None:
    body = block(Node(id="a"), Node(id="b", depends_on=("a",)))
    state = begin(x(Map(body=body, max_concurrency=1)))
    fold(state, counted(2))
    assert fold(state, *done("x[0].a")) == [start("x[0].b")]
    assert fold(state, *done("x[0].b")) == [start("x[1].a")]


# --- loop ---------------------------------------------------------------------------------------------


def test_a_loop_fails_with_an_iteration_and_begins_no_other() -> None:
    state = begin(x(Loop(body=IN, max_iterations=5)))
    fold(state, *failed("x[0].in"))
    assert state.steps["x"].status is StepStatus.FAILED
    assert "x[1].in" not in state.steps


def test_a_loop_fails_if_its_condition_cannot_be_evaluated() -> None:
    state = begin(x(Loop(body=IN, max_iterations=5)))
    fold(state, *done("x[0].in"), NOT_EVALUATED)
    assert state.steps["x"].status is StepStatus.FAILED


def test_a_loop_goes_on_until_its_condition_holds() -> None:
    state = begin(x(Loop(body=IN, max_iterations=5)))
    assert fold(state, *done("x[0].in")) == [c.CheckLoop(path="x", iteration=0)]
    assert fold(state, checked(0, done=False)) == [start("x[1].in")]
    assert fold(state, *done("x[1].in"), checked(1, done=True)) == [
        c.CheckLoop(path="x", iteration=1),
        COLLECT,
    ]


def test_a_loop_ends_with_its_last_iteration_and_asks_no_more() -> None:
    state = begin(x(Loop(body=IN, max_iterations=1)))
    assert fold(state, *done("x[0].in")) == [COLLECT]


def test_a_loop_without_a_condition_runs_all_its_iterations() -> None:
    state = begin(x(Loop(body=IN, max_iterations=2, conditional=False)))
    assert fold(state, *done("x[0].in")) == [start("x[1].in")]
    assert fold(state, *done("x[1].in")) == [COLLECT]


# --- workflow -----------------------------------------------------------------------------------------


def test_a_call_fails_as_the_other_run_did() -> None:
    state = begin(x(Child()))
    fold(state, CALLED, e.ChildEnded(path="x", failure=PERMANENT, at=2.0))
    assert state.steps["x"].failure == PERMANENT
    assert state.steps["x"].status is StepStatus.FAILED


def test_a_call_that_is_being_recovered_from_has_nothing_left_to_cancel() -> None:
    state = begin(x(Child(), continues=True))
    fold(state, CALLED, e.ChildEnded(path="x", failure=PERMANENT, at=2.0))
    assert fold(state, CANCEL) == [c.FinishRun(outcome="cancelled")]


def test_a_call_is_completed_when_the_other_run_is() -> None:
    state = begin(x(Child()))
    assert fold(state, CALLED) == [c.LaunchChild(path="x", run_id="other")]
    fold(state, e.ChildEnded(path="x", failure=None, at=2.0))
    assert state.steps["x"].status is StepStatus.COMPLETED


def test_a_call_that_waits_for_nothing_is_completed_when_the_other_run_is_accepted() -> None:
    state = begin(x(Child(wait=False)))
    fold(state, CALLED, e.ChildLaunched(path="x", at=2.0))
    assert state.steps["x"].status is StepStatus.COMPLETED


def test_a_run_that_nobody_waits_for_is_not_cancelled() -> None:
    state = begin(x(Child(wait=False)))
    fold(state, CALLED)
    assert fold(state, CANCEL) == [c.FinishRun(outcome="cancelled")]


def test_a_call_that_takes_too_long_cancels_the_other_run_and_fails_after_its_end() -> None:
    state = begin(x(Child(), timeout=5.0))
    fold(state, CALLED)
    assert fold(state, TIMED_OUT) == [c.CancelChild(path="x", run_id="other")]
    fold(state, e.ChildEnded(path="x", failure=None, at=5.0))
    failure = state.steps["x"].failure
    assert failure is not None
    assert failure.error_class == "timeout"


# --- wait ---------------------------------------------------------------------------------------------


def test_a_wait_that_lasts_longer_than_the_step_may_fails() -> None:
    state = begin(x(Wait(), timeout=5.0))
    fold(state, e.WaitStarted(path="x", due_at=99.0, at=0.0), TIMED_OUT)
    assert state.steps["x"].status is StepStatus.FAILED
    assert not state.timers


def test_a_wait_is_over_at_its_time() -> None:
    state = begin(x(Wait()))
    timer = c.StartTimer(timer=c.WaitTimer(path="x"), due_at=99.0)
    assert fold(state, e.WaitStarted(path="x", due_at=99.0, at=0.0)) == [timer]
    fold(state, e.WaitOver(path="x", at=99.0))
    assert state.steps["x"].status is StepStatus.COMPLETED


# --- approval -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_timeout", "status", "action"),
    [
        ("fail", StepStatus.FAILED, None),
        ("reject", StepStatus.COMPLETED, "reject"),
        ("approve", StepStatus.COMPLETED, "approve"),
    ],
)
def test_silence_means_what_the_step_says(
    on_timeout: OnTimeout, status: StepStatus, action: str | None
) -> None:
    state = begin(x(Approval(on_timeout=on_timeout), timeout=60.0))
    asked = e.ApprovalRequested(path="x", approval_id="a", at=1.0)
    timer = c.StartTimer(timer=c.ApprovalTimer(path="x", action=action), due_at=61.0)
    assert fold(state, asked) == [timer]
    fold(state, e.ApprovalExpired(path="x", at=61.0))
    assert state.steps["x"].status is status


def test_an_approval_that_nobody_gave_in_time_fails_under_a_class_of_its_own() -> None:
    state = begin(x(Approval(), timeout=60.0))
    asked = e.ApprovalRequested(path="x", approval_id="a", at=1.0)
    fold(state, asked, e.ApprovalExpired(path="x", at=61.0))
    failure = state.steps["x"].failure
    assert failure is not None
    assert failure.error_class == "approval_timeout"


def test_an_answer_completes_the_approval_and_comes_too_late_after_that() -> None:
    state = begin(x(Approval(), timeout=60.0), Node(id="after", depends_on=("x",)))
    answer = e.ApprovalAnswered(path="x", action="reject", by="someone", at=2.0)
    asked = e.ApprovalRequested(path="x", approval_id="a", at=1.0)
    assert start("after") in fold(state, asked, answer)
    assert not state.timers
    assert state.phase is RunPhase.RUNNING
