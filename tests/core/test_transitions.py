"""Which events may happen when: every event, offered in every situation of every kind of step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import pytest

from app.core import events as e
from app.core.plan import (
    Approval,
    Block,
    Branch,
    Child,
    Control,
    Loop,
    Map,
    Node,
    Parallel,
    Plan,
    RetryPolicy,
    Wait,
)
from app.core.scheduler import FOLDS, evolve
from app.core.state import RunPhase, RunState, StepStatus, initial_state
from app.core.transitions import InvalidTransition, accepts
from tests.core.rumours import OF_ATTEMPTS, OF_STEPS
from tests.core.snapshots import snapshot

FAILURE = e.Failure(error_class="timeout", message="slow", temporary=True)
BODY = Block(nodes=(Node(id="in"),))
BRANCH = Branch(cases={"x": BODY})
RETRY = RetryPolicy(max_attempts=2, retry_on=frozenset({"timeout"}), jitter="none")


def entered(path: str = "x") -> e.Event:
    return e.BlockEntered(path=path, at=0.0)


def started(path: str, attempt: int = 1) -> e.Event:
    return e.AttemptStarted(path=path, attempt=attempt, at=0.0)


def succeeded(path: str) -> Sequence[e.Event]:
    return (started(path), e.StepSucceeded(path=path, attempt=1, at=0.0))


def situation(node: Node, *journal: e.Event) -> RunState:
    plan = Plan(main=Block(nodes=(node, Node(id="after", depends_on=("x",)))))
    state = initial_state("r", plan)
    for event in (e.RunSubmitted(at=0.0), e.RunStarted(at=0.0), *journal):
        evolve(state, event)
    return state


def control(policy: Control, *journal: e.Event, continues: bool = False) -> RunState:
    return situation(Node(id="x", control=policy, timeout=5.0, continues=continues), *journal)


CHOSEN = e.BranchChosen(path="x", case="x", at=0.0)
COUNTED = e.ItemsCounted(path="x", count=1, at=0.0)
WAITS = e.WaitStarted(path="x", due_at=9.0, at=0.0)
ASKED = e.ApprovalRequested(path="x", approval_id="a", at=0.0)
CALLED = e.ChildStarted(path="x", run_id="c", at=0.0)
TIMED_OUT = e.BlockTimedOut(path="x", at=5.0)
FAILED = e.EvaluationFailed(path="x", failure=FAILURE, at=0.0)
PAUSED = e.RunPaused(reason=None, at=0.0)
CANCELLED = e.CancelRequested(reason=None, at=0.0)
COMPLETED = e.BlockCompleted(path="x", at=0.0)
S = StepStatus

CONTROLS = [
    ("branch", control(BRANCH), S.ENTERING, {"default", "case", "not evaluated", "timed out"}),
    ("branch under way", control(BRANCH, CHOSEN), S.OPEN, {"timed out"}),
    (
        "branch at its end",
        control(BRANCH, CHOSEN, *succeeded("x.in")),
        S.COLLECTING,
        {"completed", "not evaluated", "timed out"},
    ),
    ("branch over", control(BRANCH, CHOSEN, *succeeded("x.in"), COMPLETED), S.COMPLETED, set()),
    ("parallel", control(Parallel(body=BODY)), S.ENTERING, {"entered", "not evaluated", "timed out"}),
    ("parallel under way", control(Parallel(body=BODY), entered()), S.OPEN, {"timed out"}),
    (
        "parallel being stopped",
        control(Parallel(body=BODY), entered(), started("x.in"), TIMED_OUT),
        S.STOPPING,
        set(),
    ),
    ("map", control(Map(body=BODY)), S.ENTERING, {"counted", "not evaluated", "timed out"}),
    ("map under way", control(Map(body=BODY), COUNTED), S.OPEN, {"timed out"}),
    (
        "map at its end",
        control(Map(body=BODY), COUNTED, *succeeded("x[0].in")),
        S.COLLECTING,
        {"completed", "not evaluated", "timed out"},
    ),
    (
        "loop",
        control(Loop(body=BODY, max_iterations=2)),
        S.ENTERING,
        {"entered", "not evaluated", "timed out"},
    ),
    ("loop under way", control(Loop(body=BODY, max_iterations=2), entered()), S.OPEN, {"timed out"}),
    (
        "loop between iterations",
        control(Loop(body=BODY, max_iterations=2), entered(), *succeeded("x[0].in")),
        S.OPEN,
        {"loop done", "loop on", "not evaluated", "timed out"},
    ),
    ("call", control(Child()), S.ENTERING, {"child started", "not evaluated", "timed out"}),
    ("call under way", control(Child(), CALLED), S.WAITING, {"child ended", "child failed", "timed out"}),
    ("call being stopped", control(Child(), CALLED, TIMED_OUT), S.STOPPING, {"child ended", "child failed"}),
    (
        "call being cancelled",
        control(Child(), CALLED, CANCELLED),
        S.STOPPING,
        {"child ended", "child failed"},
    ),
    (
        "call nobody waits for",
        control(Child(wait=False), CALLED),
        S.WAITING,
        {"child launched", "child ended", "child failed", "timed out"},
    ),
    ("wait", control(Wait()), S.ENTERING, {"waits", "not evaluated", "timed out"}),
    ("wait under way", control(Wait(), WAITS), S.WAITING, {"wait over", "timed out"}),
    ("wait cancelled", control(Wait(), WAITS, CANCELLED), S.CANCELLED, set()),
    ("approval", control(Approval()), S.ENTERING, {"asked", "not evaluated"}),
    ("approval under way", control(Approval(), ASKED), S.WAITING, {"answered", "expired"}),
    (
        "approval without end",
        situation(Node(id="x", control=Approval()), ASKED),
        S.WAITING,
        {"answered"},
    ),
    ("wait without a time-out", situation(Node(id="x", control=Wait()), WAITS), S.WAITING, {"wait over"}),
    ("failing", control(Wait(), FAILED), S.FAILING, {"failed"}),
    ("failing with a stand-in", control(Wait(), FAILED, continues=True), S.FAILING, {"failed", "recovered"}),
    (
        "held by a pause",
        situation(
            Node(id="x", conditional=True, control=Wait()),
            PAUSED,
            e.ConditionEvaluated(path="x", passed=True, at=0.0),
        ),
        S.READY,
        set(),
    ),
    (
        "gate",
        situation(Node(id="x", conditional=True)),
        S.EVALUATING,
        {"gate open", "gate shut", "gate broken"},
    ),
    (
        "gate shut",
        situation(Node(id="x", conditional=True), e.ConditionEvaluated(path="x", passed=False, at=0.0)),
        S.PENDING,
        {"skipped"},
    ),
    ("attempt", situation(Node(id="x", timeout=5.0), started("x")), S.RUNNING, set()),
]


@pytest.mark.parametrize(
    ("state", "status", "possible"),
    [case[1:] for case in CONTROLS],
    ids=[case[0] for case in CONTROLS],
)
def test_an_event_that_does_not_fit_the_step_raises_and_the_others_happen(
    state: RunState, status: StepStatus, possible: set[str]
) -> None:
    assert state.steps["x"].status is status
    before = snapshot(state)
    accepted = set()
    for name, event in ((name, make("x", 6.0)) for name, make in OF_STEPS.items()):
        if accepts(state, event):
            accepted.add(name)
            continue
        with pytest.raises(InvalidTransition):
            evolve(state, event)
    assert snapshot(state) == before
    assert accepted == possible


FAILED_TRY = e.AttemptFailed(path="x", attempt=1, failure=FAILURE, at=0.0)
PLAIN = Node(id="x", timeout=5.0, retry=RETRY)
ATTEMPTS = [
    ("about to start", situation(PLAIN), S.STARTING, 1, {"started"}),
    (
        "in flight",
        situation(PLAIN, started("x")),
        S.RUNNING,
        1,
        {"succeeded", "failed", "timed out", "lost", "deferred", "notice"},
    ),
    (
        "in flight without a time-out",
        situation(Node(id="x"), started("x")),
        S.RUNNING,
        1,
        {"succeeded", "failed", "lost", "deferred", "notice"},
    ),
    (
        "being aborted",
        situation(PLAIN, started("x"), CANCELLED),
        S.RUNNING,
        1,
        {"succeeded", "failed", "lost", "cancelled", "deferred", "notice"},
    ),
    ("an older one", situation(PLAIN, started("x"), FAILED_TRY), S.FAILING, 1, set()),
    ("failed", situation(PLAIN, started("x"), FAILED_TRY), S.FAILING, 2, {"to be retried"}),
    (
        "between two",
        situation(PLAIN, started("x"), FAILED_TRY, e.RetryScheduled(path="x", attempt=2, due_at=1.0, at=0.0)),
        S.RETRYING,
        2,
        {"retry due"},
    ),
    ("over", situation(PLAIN, *succeeded("x")), S.COMPLETED, 1, set()),
    ("of a control step", control(Wait()), S.ENTERING, 1, set()),
    (
        "of a control step that is held",
        situation(
            Node(id="x", conditional=True, control=Wait()),
            PAUSED,
            e.ConditionEvaluated(path="x", passed=True, at=0.0),
        ),
        S.READY,
        1,
        set(),
    ),
    ("of a control step that failed", control(Wait(), FAILED), S.FAILING, 1, set()),
]


@pytest.mark.parametrize(
    ("state", "status", "attempt", "possible"),
    [case[1:] for case in ATTEMPTS],
    ids=[case[0] for case in ATTEMPTS],
)
def test_news_that_does_not_fit_the_attempt_raises_and_the_others_happen(
    state: RunState, status: StepStatus, attempt: int, possible: set[str]
) -> None:
    assert state.steps["x"].status is status
    before = snapshot(state)
    accepted = set()
    for name, event in ((name, make("x", attempt, 6.0)) for name, make in OF_ATTEMPTS.items()):
        if accepts(state, event):
            accepted.add(name)
            continue
        with pytest.raises(InvalidTransition):
            evolve(state, event)
    assert snapshot(state) == before
    assert accepted == possible


def test_a_step_whose_turn_has_not_come_cannot_start() -> None:
    body = Block(nodes=(Node(id="a"), Node(id="b")))
    state = control(Parallel(body=body, max_concurrency=1), entered())
    with pytest.raises(InvalidTransition, match="not the turn"):
        evolve(state, started("x.b"))
    assert accepts(state, started("x.a"))


RUNS: Sequence[tuple[str, RunState, e.Event, str]] = [
    ("paused twice", situation(PLAIN, PAUSED), PAUSED, "paused already"),
    ("resumed in vain", situation(PLAIN), e.RunResumed(at=0.0), "not paused"),
    ("woken in vain", situation(PLAIN), e.RunWoken(at=0.0), "not parked"),
    ("parked in flight", situation(PLAIN, started("x")), e.RunParked(wake_at=None, at=0.0), "not at rest"),
    (
        "parked twice",
        control(Wait(), WAITS, e.RunParked(wake_at=9.0, at=0.0)),
        e.RunParked(wake_at=None, at=0.0),
        "not at rest",
    ),
    ("cancelled twice", situation(PLAIN, started("x"), CANCELLED), CANCELLED, "ending already"),
    ("paused at the end", situation(PLAIN, started("x"), CANCELLED), PAUSED, "the run is ending"),
    ("completed too early", situation(PLAIN), e.RunCompleted(at=0.0), "not every step"),
    (
        "ended in flight",
        situation(PLAIN, started("x")),
        e.RunFailed(path=None, failure=FAILURE, at=0.0),
        "in flight",
    ),
    ("ended otherwise", situation(PLAIN, CANCELLED), e.RunTimedOut(at=0.0), "is to end as cancelled"),
]


@pytest.mark.parametrize(
    ("state", "event", "why"), [case[1:] for case in RUNS], ids=[case[0] for case in RUNS]
)
def test_an_event_that_does_not_fit_the_run_raises_and_changes_nothing(
    state: RunState, event: e.Event, why: str
) -> None:
    before = snapshot(state)
    with pytest.raises(InvalidTransition, match=why):
        evolve(state, event)
    assert snapshot(state) == before


def test_a_journal_of_the_first_version_may_end_for_lack_of_time_after_the_last_step() -> None:
    state = situation(Node(id="x"), *succeeded("x"), *succeeded("after"))
    evolve(state, e.RunTimeoutReached(at=9.0))
    evolve(state, e.RunTimedOut(at=9.0))
    assert state.phase is RunPhase.TIMED_OUT


def test_a_step_that_does_not_exist_has_no_news() -> None:
    with pytest.raises(InvalidTransition, match="no step 'nowhere'"):
        evolve(situation(PLAIN), started("nowhere"))


def test_an_item_that_was_not_begun_has_no_news() -> None:
    state = control(Map(body=BODY, max_concurrency=1), e.ItemsCounted(path="x", count=2, at=0.0))
    with pytest.raises(InvalidTransition, match="no step"):
        evolve(state, started("x[1].in"))


def test_a_branch_cannot_take_a_case_it_does_not_have() -> None:
    with pytest.raises(InvalidTransition, match="no case 'nowhere'"):
        evolve(control(BRANCH), e.BranchChosen(path="x", case="nowhere", at=0.0))


@pytest.mark.parametrize("iteration", [-1, 1, 2])
def test_a_loop_is_not_checked_for_another_iteration_than_its_latest(iteration: int) -> None:
    state = control(Loop(body=BODY, max_iterations=5), entered(), *succeeded("x[0].in"))
    with pytest.raises(InvalidTransition, match="not the latest"):
        evolve(state, e.LoopChecked(path="x", iteration=iteration, done=True, at=0.0))


def test_every_event_has_its_effect() -> None:
    assert set(FOLDS) == set(get_args(e.Event))
