"""The properties of the scheduler over random graphs, outcomes and crashes."""

from __future__ import annotations

import random
from collections import Counter
from copy import deepcopy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import commands as c
from app.core import events as e
from app.core.plan import Node, Plan, RetryPolicy, RunOn
from app.core.scheduler import MAX_LOST, decide, evolve
from app.core.state import ENDED, RunPhase, StepStatus, initial_state
from app.core.transitions import InvalidTransition, accepts
from tests.core.simulation import RUN_ID, World

RUN_ON: tuple[RunOn, ...] = ("success", "success", "success", "success", "success", "failure", "always")
CLASSES = ("rate_limit", "timeout", "invalid_request")


@st.composite
def plans(draw: st.DrawFn, max_steps: int = 60) -> Plan:
    size = draw(st.integers(1, max_steps))
    rng = random.Random(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.02, 0.1, 0.4]))
    nodes = []
    for index in range(size):
        dependencies = tuple(f"s{other}" for other in range(index) if rng.random() < density)
        nodes.append(
            Node(
                id=f"s{index}",
                depends_on=dependencies,
                run_on=rng.choice(RUN_ON),
                conditional=rng.random() < 0.3,
                retry=RetryPolicy(
                    max_attempts=rng.choice([1, 1, 2, 4]),
                    retry_on=frozenset(CLASSES[:2]),
                    max_duration=rng.choice([None, None, 2.0]),
                    backoff=rng.choice(["exponential", "linear", "constant"]),
                    jitter=rng.choice(["full", "none"]),
                ),
                timeout=rng.choice([None, 0.5, 30.0]),
                continues=rng.random() < 0.1,
                repeatable=rng.random() < 0.8,
            )
        )
    timeout = draw(st.sampled_from([None, None, None, 5.0]))
    return Plan(nodes=tuple(nodes), max_concurrency=draw(st.sampled_from([1, 3, 64])), timeout=timeout)


@st.composite
def worlds(draw: st.DrawFn, *, crashes: bool = True, max_steps: int = 60) -> World:
    plan = draw(plans(max_steps))
    seed = draw(st.integers(0, 2**32))
    failing = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    crashing = draw(st.sampled_from([0.0, 0.02, 0.2])) if crashes else 0.0
    rng = random.Random(seed)
    crash_rng = random.Random(seed + 1)

    def outcome(path: str, attempt: int) -> e.Failure | None:
        if rng.random() >= failing:
            return None
        name = rng.choice(CLASSES)
        retry_after = rng.choice([None, None, 3.0])
        return e.Failure(
            error_class=name, message="scripted", temporary=name != CLASSES[2], retry_after=retry_after
        )

    def gate(path: str) -> bool | e.Failure:
        if rng.random() < 0.1:
            return e.Failure(error_class="condition", message="scripted")
        return rng.random() < 0.6

    return World(
        plan=plan,
        outcome=outcome,
        gate=gate,
        crash=lambda: crash_rng.random() < crashing,
        seed=seed,
        cancel_after=draw(st.sampled_from([None, None, None, 3, 20])),
    )


@settings(max_examples=300)
@given(worlds())
def test_every_run_terminates_with_one_terminal_event_and_no_open_step(world: World) -> None:
    state = world.run()
    assert state.terminal
    assert sum(isinstance(event, e.TerminalEvent) for event in world.journal) == 1
    assert isinstance(world.journal[-1], e.TerminalEvent)
    assert all(step.status in ENDED for step in state.steps.values())
    assert not state.running
    assert not state.agenda


@settings(max_examples=200)
@given(worlds())
def test_replaying_the_journal_gives_the_state_the_run_had(world: World) -> None:
    state = world.run()
    assert world.replay() == state


@settings(max_examples=200)
@given(worlds(), st.sampled_from([1, 2, 5, 100]))
def test_a_journal_is_folded_alike_under_another_bound_on_concurrency(world: World, bound: int) -> None:
    lived = world.run()
    plan = Plan(nodes=world.plan.nodes, max_concurrency=bound, timeout=world.plan.timeout)
    state = initial_state(RUN_ID, plan)
    for event in world.journal:
        evolve(state, event)
    assert state.steps == lived.steps
    assert state.phase is lived.phase


@settings(max_examples=200)
@given(worlds())
def test_no_attempt_starts_before_its_dependencies_ended(world: World) -> None:
    world.run()
    ended: set[str] = set()
    for event in world.journal:
        if isinstance(event, e.StepSucceeded | e.StepFailed | e.StepRecovered | e.StepSkipped):
            ended.add(event.path)
        elif isinstance(event, e.AttemptStarted):
            assert set(world.plan.by_id[event.path].depends_on) <= ended


@settings(max_examples=200)
@given(worlds())
def test_attempts_are_bounded_by_the_policy_and_the_crashes(world: World) -> None:
    world.run()
    started = Counter(event.path for event in world.journal if isinstance(event, e.AttemptStarted))
    lost = Counter(event.path for event in world.journal if isinstance(event, e.AttemptLost))
    for path, count in started.items():
        assert count <= world.plan.by_id[path].retry.max_attempts + lost[path]
        assert lost[path] <= MAX_LOST


@settings(max_examples=200)
@given(worlds())
def test_a_step_that_succeeded_never_starts_again(world: World) -> None:
    world.run()
    succeeded: set[str] = set()
    for event in world.journal:
        if isinstance(event, e.StepSucceeded):
            succeeded.add(event.path)
        elif isinstance(event, e.AttemptStarted):
            assert event.path not in succeeded


@settings(max_examples=200)
@given(worlds())
def test_a_step_that_must_not_repeat_never_starts_after_being_lost(world: World) -> None:
    world.run()
    lost: set[str] = set()
    for event in world.journal:
        if isinstance(event, e.AttemptLost) and not world.plan.by_id[event.path].repeatable:
            lost.add(event.path)
        elif isinstance(event, e.AttemptStarted):
            assert event.path not in lost


@settings(max_examples=200)
@given(worlds())
def test_attempts_in_flight_never_exceed_the_runs_own_bound(world: World) -> None:
    world.run()
    flying: set[str] = set()
    for event in world.journal:
        if isinstance(event, e.AttemptStarted):
            flying.add(event.path)
            assert len(flying) <= world.plan.max_concurrency
        elif isinstance(
            event,
            e.StepSucceeded | e.AttemptFailed | e.AttemptLost | e.AttemptTimedOut | e.AttemptCancelled,
        ):
            flying.discard(event.path)


@settings(max_examples=200)
@given(worlds(crashes=False))
def test_without_cancellation_the_outcome_follows_from_what_failed(world: World) -> None:
    world.cancel_after = None
    state = world.run()
    if state.phase is RunPhase.TIMED_OUT:
        return
    failed = [path for path, step in state.steps.items() if step.status is StepStatus.FAILED]
    assert state.phase is (RunPhase.FAILED if failed else RunPhase.COMPLETED)


@settings(max_examples=200)
@given(worlds(crashes=False))
def test_skips_and_blocks_follow_the_rules_of_propagation(world: World) -> None:
    state = world.run()
    if state.phase not in {RunPhase.COMPLETED, RunPhase.FAILED}:
        return
    blocking = {
        path
        for path, step in state.steps.items()
        if step.status is StepStatus.FAILED or step.skip_reason == "upstream_failed"
    }
    for node in world.plan.nodes:
        step = state.steps[node.id]
        if node.run_on == "success" and blocking & set(node.depends_on):
            assert step.skip_reason == "upstream_failed"
        if node.run_on == "failure" and not blocking & set(node.depends_on):
            assert step.skip_reason == "run_on"
        if step.skip_reason == "upstream_skipped":
            assert all(state.steps[other].status is StepStatus.SKIPPED for other in node.depends_on)
        if step.skip_reason == "condition":
            assert node.conditional


@settings(max_examples=100)
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


@settings(max_examples=200)
@given(worlds(crashes=False, max_steps=12), st.integers(0, 10_000))
def test_an_impossible_event_raises_and_changes_nothing(world: World, choice: int) -> None:
    world.run()
    cut = choice % len(world.journal)
    state = initial_state(RUN_ID, world.plan)
    for event in world.journal[:cut]:
        evolve(state, event)
    for event in world.journal:
        if not accepts(state, event):
            before = deepcopy(state)
            with pytest.raises(InvalidTransition):
                evolve(state, event)
            assert state == before
