"""The properties of control steps over random documents, weather and crashes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from hypothesis import given, settings

from app.core import events as e
from app.core.plan import Approval, Block, Branch, Child, Loop, Map, Parallel, Wait
from app.core.state import RunState, StepState, StepStatus
from tests.core.answers import CANCELLED_CHILD
from tests.core.simulation import World
from tests.core.worlds import worlds


def by_owner(state: RunState) -> Mapping[str | None, Sequence[StepState]]:
    """The steps right within each control step, of all its items or iterations, as they were opened."""
    owned: dict[str | None, list[StepState]] = defaultdict(list)
    for step in state.steps.values():
        owned[step.scope.owner].append(step)
    return owned


def of_kind(state: RunState, *kinds: type) -> Iterator[StepState]:
    return (step for step in tuple(state.steps.values()) if isinstance(step.node.control, kinds))


# --- maps, loops, branches ----------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds())
def test_items_are_opened_in_order_and_each_at_most_once(world: World) -> None:
    state = world.run()
    inner = by_owner(state)
    for step in of_kind(state, Map):
        opened = list(dict.fromkeys(other.scope.index for other in inner[step.path]))
        assert opened == list(range(len(opened)))
        control = step.control
        if control is not None:
            assert len(opened) == control.begun <= control.count
            assert set(control.failed) <= set(opened)
            collected = step.status is StepStatus.COMPLETED and not step.recovered
            assert not collected or control.begun == control.count


@settings(max_examples=100)
@given(worlds())
def test_iterations_are_bounded_and_none_begins_before_the_last_one_ended(world: World) -> None:
    state = world.run()
    inner = by_owner(state)
    for step in of_kind(state, Loop):
        control, policy = step.control, step.node.control
        assert isinstance(policy, Loop)
        if control is not None:
            assert control.count <= policy.max_iterations
            indices = [other.scope.index for other in inner[step.path]]
            assert indices == sorted(indices)
            assert set(indices) == set(range(control.count))
    latest: dict[str, int] = defaultdict(int)
    for event in world.journal:
        path = getattr(event, "path", None)
        owner = None if path is None else state.steps[path].scope.owner
        if path is not None and owner is not None and isinstance(state.steps[owner].node.control, Loop):
            assert state.steps[path].scope.index >= latest[owner]
            latest[owner] = state.steps[path].scope.index


@settings(max_examples=100)
@given(worlds())
def test_a_branch_runs_the_case_that_was_chosen_and_no_other(world: World) -> None:
    state = world.run()
    inner = by_owner(state)
    chosen = {event.path: event.case for event in world.journal if isinstance(event, e.BranchChosen)}
    for step in of_kind(state, Branch):
        policy = step.node.control
        assert isinstance(policy, Branch)
        blocks: set[int] = {id(other.scope.block) for other in inner[step.path]}
        if step.path not in chosen:
            assert not blocks
            continue
        case = chosen[step.path]
        block = policy.default if case is None else policy.cases[case]
        assert blocks == (set() if block is None else {id(block)})


# --- failures -----------------------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds())
def test_a_failed_step_fails_its_control_step_unless_its_item_may_fail(world: World) -> None:
    state = world.run()
    inner = by_owner(state)
    for step in of_kind(state, Branch, Parallel, Loop, Map):
        policy = step.node.control
        failed = any(other.status is StepStatus.FAILED for other in inner[step.path])
        if failed and not (isinstance(policy, Map) and policy.on_item_error != "fail"):
            assert step.status is not StepStatus.COMPLETED or step.recovered
            assert step.status in {StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.COMPLETED}


@settings(max_examples=100)
@given(worlds())
def test_a_control_step_fails_only_for_a_reason(world: World) -> None:
    state = world.run()
    inner = by_owner(state)
    reasons = {
        event.path
        for event in world.journal
        if isinstance(event, e.ConditionFailed | e.EvaluationFailed | e.BlockTimedOut | e.ApprovalExpired)
        or (isinstance(event, e.ChildEnded) and event.failure is not None)
    }
    for step in state.steps.values():
        if step.node.control is not None and step.status is StepStatus.FAILED:
            failed = any(other.status is StepStatus.FAILED for other in inner[step.path])
            assert failed or step.path in reasons


@settings(max_examples=100)
@given(worlds(cancels=False))
def test_the_run_names_the_innermost_step_that_failed_first(world: World) -> None:
    state = world.run()
    last = world.journal[-1]
    if isinstance(last, e.RunFailed) and last.path is not None:
        failed = state.steps[last.path]
        assert failed.status is StepStatus.FAILED
        assert failed.cause is None
        assert last.failure == failed.failure


# --- the end of a run ---------------------------------------------------------------------------------


@settings(max_examples=100)
@given(worlds())
def test_no_other_run_that_is_waited_for_outlives_its_caller(world: World) -> None:
    state = world.run()
    started = {event.path: event.run_id for event in world.journal if isinstance(event, e.ChildStarted)}
    for path, run_id in started.items():
        policy = state.steps[path].node.control
        assert isinstance(policy, Child)
        child = world.children.get(run_id)
        assert child is None or child.ended or not policy.wait


@settings(max_examples=100)
@given(worlds())
def test_another_run_is_cancelled_only_where_its_step_is_stopped(world: World) -> None:
    state = world.run()
    timed_out = {event.path for event in world.journal if isinstance(event, e.BlockTimedOut)}
    for event in world.journal:
        if isinstance(event, e.ChildEnded) and event.failure == CANCELLED_CHILD:
            assert state.steps[event.path].scope.stopping or event.path in timed_out


@settings(max_examples=100)
@given(worlds())
def test_finally_runs_once_after_everything_else_however_a_started_run_ends(world: World) -> None:
    state = world.run()
    started = any(isinstance(event, e.RunStarted) for event in world.journal)
    finally_ = world.plan.finally_
    ran = {step.node.id for step in state.steps.values() if step.path == f"finally.{step.node.id}"}
    assert ran == ({node.id for node in finally_.nodes} if finally_ is not None and started else set())
    begun = False
    for event in world.journal:
        path = getattr(event, "path", None)
        if path is not None and not isinstance(event, e.TERMINAL):
            begun = begun or path.startswith("finally.")
            assert path.startswith("finally.") is begun


@settings(max_examples=100)
@given(worlds())
def test_on_failure_runs_after_a_failure_or_a_time_out_of_the_main_steps_only(world: World) -> None:
    state = world.run()
    failed = any(state.steps[node.id].status is StepStatus.FAILED for node in world.plan.main.nodes)
    kinds = Counter(type(event) for event in world.journal)
    stopped = any(step.scope.stopping for step in state.steps.values() if step.path in world.plan.main.by_id)
    cancelled = stopped and not kinds[e.RunTimeoutReached]
    expected = bool(kinds[e.RunTimeoutReached]) or (failed and not cancelled)
    ran = any(path.startswith("on_failure.") for path in state.steps)
    if world.plan.on_failure is not None and kinds[e.RunStarted]:
        assert ran is expected
    else:
        assert not ran


def test_every_kind_of_control_step_is_among_the_documents() -> None:
    kinds = Counter[type]()

    @settings(max_examples=60, database=None)
    @given(worlds())
    def count(world: World) -> None:
        pending: list[Block] = [world.plan.main]
        while pending:
            for node in pending.pop().nodes:
                kinds[type(node.control)] += 1
                match node.control:
                    case Map(body=body) | Loop(body=body) | Parallel(body=body):
                        pending.append(body)

    count()
    assert {Branch, Parallel, Map, Loop, Child, Wait, Approval} <= set(kinds)
