"""When steps may run: dependencies, skips, failure propagation, slots, turns, pauses.

The end of every step is told here (`end_step`), and everything that may run passes through `make_ready`.
What that leads to beyond a scope is put aside for the scheduler, which comes to it after every event:
`ended_scopes`, and the steps that `dispatch` gives slots to.
"""

from __future__ import annotations

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Block, Loop, Parallel
from app.core.state import AgendaKey, ControlState, RunState, Scope, StepState, StepStatus


def open_scope(
    state: RunState,
    block: Block,
    *,
    prefix: str,
    owner: StepState | None = None,
    index: int = 0,
    limit: int | None = None,
) -> Scope:
    """Make the instances of a block's steps; `begin` starts them."""
    scope = Scope(
        prefix=prefix,
        owner=None if owner is None else owner.path,
        block=block,
        open_steps=len(block.nodes),
        index=index,
        limit=limit,
    )
    for node in block.nodes:
        path = scope.path_of(node.id)
        state.steps[path] = StepState(path, node, scope, waiting_for=len(node.depends_on))
    if owner is not None and owner.control is not None:
        owner.control.open[index] = scope
    return scope


def begin(state: RunState, scope: Scope) -> None:
    """Start the steps of a scope that wait for no other."""
    for node in scope.block.nodes:
        if not node.depends_on:
            _dependencies_ended(state, state.steps[scope.path_of(node.id)])
    if not scope.open_steps:
        state.ended_scopes.append(scope)


def end_step(state: RunState, step: StepState, status: StepStatus) -> None:
    """A step ended: tell its dependents, hand its slot and its turn on."""
    step.status = status
    scope = step.scope
    scope.open_steps -= 1
    if not scope.stopping:
        _tell_dependents(state, step, status)
        if step.admitted:
            _hand_turn_on(state, scope)
    if not scope.open_steps:
        state.ended_scopes.append(scope)


def _tell_dependents(state: RunState, step: StepState, status: StepStatus) -> None:
    scope = step.scope
    completed = status is StepStatus.COMPLETED
    blocks = status is StepStatus.FAILED or step.skip_reason == "upstream_failed"
    for dependent in scope.block.dependents[step.node.id]:
        other = state.steps[scope.path_of(dependent)]
        other.waiting_for -= 1
        other.completed_dependencies += completed
        other.failed_dependencies += blocks
        if not other.waiting_for:
            _dependencies_ended(state, other)


def _hand_turn_on(state: RunState, scope: Scope) -> None:
    scope.active -= 1
    if scope.queue:
        make_ready(state, state.steps[scope.queue.popleft()])


def _dependencies_ended(state: RunState, step: StepState) -> None:
    reason = _skip_reason(step)
    if reason is not None:
        record(state, e.StepSkipped(path=step.path, reason=reason, at=state.now))
    elif step.node.conditional:
        step.status = StepStatus.EVALUATING
        state.agenda["condition", step.path] = c.EvaluateCondition(path=step.path)
    else:
        make_ready(state, step)


def _skip_reason(step: StepState) -> e.SkipReason | None:
    node = step.node
    if node.run_on == "always":
        return None
    if node.run_on == "failure":
        return None if step.failed_dependencies else "run_on"
    if step.failed_dependencies:
        return "upstream_failed"
    if node.depends_on and not step.completed_dependencies:
        return "upstream_skipped"
    return None


def make_ready(state: RunState, step: StepState) -> None:
    """A step may run: as soon as it is its turn and there is a slot."""
    step.status = StepStatus.READY
    scope = step.scope
    if scope.limit is not None and not step.admitted:
        if scope.active >= scope.limit:
            scope.queue.append(step.path)
            return
        scope.active += 1
        step.admitted = True
    (state.ready if step.node.control is None else state.held).append(step.path)


def dispatch(state: RunState) -> None:
    """Give free slots to ready steps, first come, first served; control steps need none."""
    if state.paused:
        return
    while state.held:
        step = state.steps[state.held.popleft()]
        if step.status is StepStatus.READY:
            _enter(state, step)
    while state.ready and state.slots < state.plan.max_concurrency:
        step = state.steps[state.ready.popleft()]
        if step.status is StepStatus.READY:
            step.status = StepStatus.STARTING
            state.slots += 1
            state.agenda["start", step.path] = c.StartAttempt(path=step.path, attempt=step.attempt + 1)


def take_back_starts(state: RunState) -> None:
    """Steps whose start was commanded and has not happened are ready again, in their order."""
    if state.slots == len(state.running):
        return
    starting = [path for path, step in state.steps.items() if step.status is StepStatus.STARTING]
    for path in starting:
        state.steps[path].status = StepStatus.READY
        state.agenda.pop(("start", path), None)
    state.slots -= len(starting)
    state.ready.extendleft(reversed(starting))


def _enter(state: RunState, step: StepState) -> None:
    step.status = StepStatus.ENTERING
    step.control = ControlState()
    step.first_started_at = state.now
    node = step.node
    if isinstance(node.control, (Parallel, Loop)):
        record(state, e.BlockEntered(path=step.path, at=state.now))
    else:
        state.agenda["enter", step.path] = c.EnterStep(path=step.path)
    if node.timeout is not None and not isinstance(node.control, Approval):
        start_timer(state, ("block", step.path), c.BlockTimer(path=step.path), state.now + node.timeout)


# --- the agenda ---------------------------------------------------------------------------------------

Recorded = e.StepSkipped | e.StepFailed | e.RetryScheduled | e.BlockEntered


def record(state: RunState, event: Recorded) -> None:
    """Have a decision about a step appended as it is."""
    state.agenda["decision", event.path] = c.Record(event=event)


def start_timer(state: RunState, key: AgendaKey, timer: c.Timer, due_at: float) -> None:
    """Have a timer started; it is void once `stop_timer` was called."""
    state.timers[key] = due_at
    state.agenda[key] = c.StartTimer(timer=timer, due_at=due_at)


def stop_timer(state: RunState, key: AgendaKey) -> None:
    """A timer is void."""
    if state.timers.pop(key, None) is not None:
        state.agenda.pop(key, None)


def give_up(state: RunState, step: StepState, failure: e.Failure) -> None:
    """Nothing further is tried: the step fails, or its `on_error` value takes over."""
    step.status = StepStatus.FAILING
    step.failure = failure
    stop_timer(state, ("block", step.path))
    if step.node.continues:
        state.agenda["decision", step.path] = c.RecoverStep(path=step.path, failure=failure)
    else:
        record(state, e.StepFailed(path=step.path, failure=failure, at=state.now))
