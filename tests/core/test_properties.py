"""The properties of a run over random documents, weather and crashes: life, replay, order, attempts."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import commands as c
from app.core import events as e
from app.core.attempts import MAX_LOST
from app.core.plan import Plan
from app.core.scheduler import decide, evolve
from app.core.state import ENDED, RunPhase, StepStatus, initial_state
from app.core.transitions import InvalidTransition, accepts
from tests.core.documents import graphs
from tests.core.rumours import rumour
from tests.core.simulation import RUN_ID, World
from tests.core.snapshots import snapshot
from tests.core.worlds import worlds

ENDS_STEP = (
    e.StepSucceeded,
    e.StepFailed,
    e.StepRecovered,
    e.StepSkipped,
    e.BlockCompleted,
    e.WaitOver,
    e.ApprovalAnswered,
    e.ChildLaunched,
)
"""Events after which their step has ended, whatever comes (of two others it depends)."""
ENDS_ATTEMPT = (
    e.StepSucceeded,
    e.AttemptFailed,
    e.AttemptLost,
    e.AttemptTimedOut,
    e.AttemptCancelled,
    e.AttemptDeferred,
)
ENTERS = (
    e.BlockEntered,
    e.BranchChosen,
    e.ItemsCounted,
    e.WaitStarted,
    e.ApprovalRequested,
    e.ChildStarted,
)


# --- the life of a run --------------------------------------------------------------------------------


@settings(max_examples=250)
@given(worlds())
def test_every_run_terminates_with_one_terminal_event_and_nothing_left_over(world: World) -> None:
    state = world.run()
    assert state.terminal
    assert sum(isinstance(event, e.TERMINAL) for event in world.journal) == 1
    assert isinstance(world.journal[-1], e.TERMINAL)
    assert all(step.status in ENDED for step in state.steps.values())
    assert not any((state.running, state.slots, state.agenda, state.timers))


@settings(max_examples=100)
@given(worlds(rumours=3))
def test_whatever_an_engine_may_tell_the_run_still_terminates_with_one_terminal_event(world: World) -> None:
    state = world.run()
    assert sum(isinstance(event, e.TERMINAL) for event in world.journal) == 1
    assert all(step.status in ENDED for step in state.steps.values())
    assert not any((state.running, state.slots, state.agenda, state.timers))
    if any(isinstance(event, e.RunStarted) for event in world.journal):
        for step in state.steps.values():
            assert step.status is not StepStatus.CANCELLED or step.scope.stopping
    assert snapshot(world.replay()) == snapshot(state)


@settings(max_examples=100)
@given(worlds(of=graphs()))
def test_a_plain_graph_of_steps_terminates_as_well(world: World) -> None:
    state = world.run()
    assert all(step.status in ENDED for step in state.steps.values())
    assert snapshot(world.replay()) == snapshot(state)


# --- replay -------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds())
def test_replaying_the_journal_gives_the_state_the_run_had(world: World) -> None:
    state = world.run()
    assert snapshot(world.replay()) == snapshot(state)


@settings(max_examples=60)
@given(worlds(crashes=False), st.integers(0, 2**32))
def test_every_prefix_of_a_journal_replays_to_the_state_the_run_had_then(world: World, choice: int) -> None:
    lived = {}

    def observe(count: int) -> None:
        if (count * 2654435761 + choice) % 7 == 0:
            lived[count] = snapshot(world.state, agenda=False)

    world.observe = observe
    world.run()
    state = initial_state(RUN_ID, world.plan)
    for count, event in enumerate(world.journal, 1):
        evolve(state, event)
        if count in lived:
            assert snapshot(state, agenda=False) == lived[count]


@settings(max_examples=100)
@given(worlds(), st.sampled_from([1, 2, 5, 100]))
def test_a_journal_is_folded_alike_under_another_bound_on_concurrency(world: World, bound: int) -> None:
    lived = world.run()
    old = world.plan
    plan = Plan(
        main=old.main,
        max_concurrency=bound,
        timeout=old.timeout,
        on_failure=old.on_failure,
        finally_=old.finally_,
    )
    state = initial_state(RUN_ID, plan)
    for event in world.journal:
        evolve(state, event)
    assert snapshot(state)["steps"] == snapshot(lived)["steps"]
    assert state.phase is lived.phase


@settings(max_examples=60)
@given(worlds())
def test_the_same_events_give_the_same_commands(world: World) -> None:
    world.run()
    assert _commands(world) == _commands(world)


def _commands(world: World) -> list[c.Command]:
    state = initial_state(RUN_ID, world.plan)
    commands: list[c.Command] = []
    for event in world.journal:
        commands.extend(decide(evolve(state, event)))
    return commands


@settings(max_examples=100)
@given(worlds(crashes=False), st.integers(0, 10_000))
def test_an_impossible_event_raises_and_changes_nothing(world: World, choice: int) -> None:
    world.run()
    state = world.replay(choice % len(world.journal))
    rng = random.Random(choice)
    rumours = [rumour(state, rng, world.now) for _ in range(40)]
    before = snapshot(state)
    for event in [*world.journal[:: max(1, len(world.journal) // 40)], *rumours]:
        if not accepts(state, event):
            with pytest.raises(InvalidTransition):
                evolve(state, event)
    assert snapshot(state) == before


# --- order --------------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds())
def test_nothing_begins_before_its_dependencies_ended(world: World) -> None:
    state = world.run()
    ended: set[str] = set()
    for event in world.journal:
        if isinstance(event, (*ENDS_STEP, e.ApprovalExpired, e.ChildEnded)):
            ended.add(event.path)
        elif isinstance(event, (e.AttemptStarted, *ENTERS)):
            step = state.steps[event.path]
            assert {step.scope.path_of(other) for other in step.node.depends_on} <= ended
            assert step.scope.owner not in ended


@settings(max_examples=100)
@given(worlds())
def test_what_has_ended_never_begins_again(world: World) -> None:
    world.run()
    ended: set[str] = set()
    entered: set[str] = set()
    for event in world.journal:
        if isinstance(event, ENDS_STEP):
            assert event.path not in ended
            ended.add(event.path)
        elif isinstance(event, ENTERS):
            assert event.path not in ended | entered
            entered.add(event.path)
        elif isinstance(event, e.AttemptStarted):
            assert event.path not in ended


# --- attempts -----------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds())
def test_attempts_are_bounded_by_the_policy_the_crashes_and_the_deferrals(world: World) -> None:
    state = world.run()
    started = Counter(event.path for event in world.journal if isinstance(event, e.AttemptStarted))
    lost = Counter(event.path for event in world.journal if isinstance(event, e.AttemptLost))
    deferred = Counter(event.path for event in world.journal if isinstance(event, e.AttemptDeferred))
    for path, count in started.items():
        assert count <= state.steps[path].node.retry.max_attempts + lost[path] + deferred[path]
        assert lost[path] <= MAX_LOST
    assert all(count == 1 for count in world.executed.values())


@settings(max_examples=100)
@given(worlds())
def test_a_step_that_must_not_repeat_never_starts_after_being_lost(world: World) -> None:
    state = world.run()
    lost: set[str] = set()
    for event in world.journal:
        if isinstance(event, e.AttemptLost) and not state.steps[event.path].node.repeatable:
            lost.add(event.path)
        elif isinstance(event, e.AttemptStarted):
            assert event.path not in lost


@settings(max_examples=100)
@given(worlds())
def test_attempts_in_flight_never_exceed_the_runs_own_bound(world: World) -> None:
    world.run()
    flying: set[str] = set()
    for event in world.journal:
        if isinstance(event, e.AttemptStarted):
            flying.add(event.path)
            assert len(flying) <= world.plan.max_concurrency
        elif isinstance(event, ENDS_ATTEMPT):
            flying.discard(event.path)


# --- outcomes -----------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds(cancels=False))
def test_without_cancellation_the_outcome_follows_from_what_failed(world: World) -> None:
    state = world.run()
    last = world.journal[-1]
    if state.phase is RunPhase.TIMED_OUT or (isinstance(last, e.RunFailed) and last.path is None):
        return
    failed = [
        path
        for path, step in state.steps.items()
        if step.scope.owner is None and step.status is StepStatus.FAILED
    ]
    assert state.phase is (RunPhase.FAILED if failed else RunPhase.COMPLETED)


@settings(max_examples=100)
@given(worlds())
def test_skips_and_blocks_follow_the_rules_of_propagation_in_every_block(world: World) -> None:
    state = world.run()
    for path, step in state.steps.items():
        if step.scope.stopping or step.status is StepStatus.CANCELLED:
            continue
        others = [state.steps[step.scope.path_of(other)] for other in step.node.depends_on]
        blocked = any(
            one.status is StepStatus.FAILED or one.skip_reason == "upstream_failed" for one in others
        )
        completed = any(one.status is StepStatus.COMPLETED for one in others)
        match step.node.run_on:
            case "success" if blocked:
                assert step.skip_reason == "upstream_failed", path
            case "success" if others and not completed:
                assert step.skip_reason == "upstream_skipped", path
            case "failure" if not blocked:
                assert step.skip_reason == "run_on", path
            case _:
                assert step.skip_reason in {None, "condition"}, path
        assert step.skip_reason != "condition" or step.node.conditional
