"""Control steps: what they begin with, what follows when a block within them ends, and their end.

A branch, a parallel, a map and a loop own scopes; a wait, an approval and a child only wait. What needs
data (which case, how many items, go on?) comes in as events; what follows from it is decided here.
"""

from __future__ import annotations

from typing import TypeVar, assert_never

from app.core import commands as c
from app.core import events as e
from app.core.attempts import TIMEOUT_CLASS
from app.core.plan import Approval, Branch, Child, Loop, Map, Parallel
from app.core.readiness import begin, end_step, give_up, open_scope, start_timer, stop_timer
from app.core.state import Cause, ControlState, RunState, Scope, StepState, StepStatus
from app.core.stopping import forget, stop_control

EXPIRED_CLASS = "approval_timeout"
T = TypeVar("T")

Answer = (
    e.BlockEntered
    | e.BranchChosen
    | e.ItemsCounted
    | e.LoopChecked
    | e.WaitStarted
    | e.ApprovalRequested
    | e.ChildStarted
    | e.EvaluationFailed
    | e.BlockCompleted
)
"""What the engine found out for a control step."""
Outside = (
    e.WaitOver | e.ApprovalAnswered | e.ApprovalExpired | e.ChildLaunched | e.ChildEnded | e.BlockTimedOut
)
"""What time, people and other runs do to one."""


def answered(state: RunState, event: Answer) -> None:
    """Go on with what was found out."""
    step = state.steps[event.path]
    control = _control_of(step)
    for name in ("enter", "check", "collect", "decision"):
        state.agenda.pop((name, event.path), None)
    match event:
        case e.BlockEntered():
            _entered(state, step)
        case e.BranchChosen():
            _branch_chosen(state, step, control, event.case)
        case e.ItemsCounted():
            control.count = event.count
            step.status = StepStatus.OPEN
            _go_on_with_map(state, step, control)
        case e.LoopChecked():
            _loop_checked(state, step, control, done=event.done)
        case e.WaitStarted():
            control.instant = event.instant
            timer = c.WaitTimer(path=step.path, instant=event.instant)
            _wait(state, step, control, timer, event.due_at)
        case e.ApprovalRequested():
            control.approval = event.approval_id
            due_at = None if step.node.timeout is None else event.at + step.node.timeout
            on_timeout = _policy(step, Approval).on_timeout
            silence = c.ApprovalTimer(path=step.path, action=None if on_timeout == "fail" else on_timeout)
            _wait(state, step, control, silence, due_at)
        case e.ChildStarted():
            _child_started(state, step, control, event.run_id)
        case e.EvaluationFailed():
            give_up(state, step, event.failure)
        case e.BlockCompleted():
            _complete(state, step)
        case _:
            assert_never(event)


def happened(state: RunState, event: Outside) -> None:
    """Go on with what time, people or another run did."""
    step = state.steps[event.path]
    match event:
        case e.WaitOver() | e.ApprovalAnswered() | e.ChildLaunched():
            _complete(state, step)
        case e.ApprovalExpired():
            _approval_expired(state, step)
        case e.ChildEnded():
            _child_ended(state, step, event.failure)
        case e.BlockTimedOut():
            _timed_out(state, step)
        case _:
            assert_never(event)


def scope_ended(state: RunState, step: StepState, scope: Scope) -> None:
    """The last step of a scope of this control step ended."""
    control = _control_of(step)
    control.open.pop(scope.index, None)
    if step.status is StepStatus.STOPPING:
        if not control.open and not control.child_open:
            _stopped(state, step)
        return
    match step.node.control:
        case Map():
            if scope.first_failure is not None:
                control.failed[scope.index] = scope.first_failure
            _go_on_with_map(state, step, control)
        case Loop() as loop:
            _iteration_ended(state, step, control, loop, scope)
        case _:
            _end_with(state, step, scope.first_failure)


def _policy(step: StepState, kind: type[T]) -> T:
    policy = step.node.control
    if not isinstance(policy, kind):
        raise TypeError(f"step {step.path!r} is no {kind.__name__}")
    return policy


def _control_of(step: StepState) -> ControlState:
    if step.control is None:
        step.control = ControlState()
    return step.control


# --- entering -----------------------------------------------------------------------------------------


def _entered(state: RunState, step: StepState) -> None:
    step.status = StepStatus.OPEN
    match step.node.control:
        case Parallel(body=body, max_concurrency=limit):
            begin(state, open_scope(state, body, prefix=step.path, owner=step, limit=limit))
        case _:
            _iterate(state, step, _control_of(step))


def _branch_chosen(state: RunState, step: StepState, control: ControlState, case: str | None) -> None:
    branch = _policy(step, Branch)
    control.case = case
    block = branch.default if case is None else branch.cases[case]
    if block is None:
        _collect(state, step)
    else:
        step.status = StepStatus.OPEN
        begin(state, open_scope(state, block, prefix=step.path, owner=step))


def _wait(
    state: RunState, step: StepState, control: ControlState, timer: c.Timer, due_at: float | None
) -> None:
    step.status = StepStatus.WAITING
    control.due_at = due_at
    if due_at is not None:
        start_timer(state, ("timer", step.path), timer, due_at)


def _child_started(state: RunState, step: StepState, control: ControlState, run_id: str) -> None:
    child = step.node.control
    step.status = StepStatus.WAITING
    control.child = run_id
    control.child_open = isinstance(child, Child) and child.wait
    state.agenda["child", step.path] = c.LaunchChild(path=step.path, run_id=run_id)


# --- scopes -------------------------------------------------------------------------------------------


def _go_on_with_map(state: RunState, step: StepState, control: ControlState) -> None:
    """Keep as many items under way as may be; collect, or fail, after the last."""
    policy = _policy(step, Map)
    failing = bool(control.failed) and policy.on_item_error == "fail"
    while not failing and control.begun < control.count and len(control.open) < policy.max_concurrency:
        index = control.begun
        control.begun += 1
        prefix = f"{step.path}[{index}]"
        begin(state, open_scope(state, policy.body, prefix=prefix, owner=step, index=index))
    if not control.open:
        first = min(control.failed) if failing else None
        _end_with(state, step, None if first is None else control.failed[first])


def _iterate(state: RunState, step: StepState, control: ControlState) -> None:
    loop = _policy(step, Loop)
    index = control.count
    control.count += 1
    begin(state, open_scope(state, loop.body, prefix=f"{step.path}[{index}]", owner=step, index=index))


def _iteration_ended(
    state: RunState, step: StepState, control: ControlState, loop: Loop, scope: Scope
) -> None:
    if scope.first_failure is not None or control.count >= loop.max_iterations:
        _end_with(state, step, scope.first_failure)
    elif loop.conditional:
        state.agenda["check", step.path] = c.CheckLoop(path=step.path, iteration=scope.index)
    else:
        _iterate(state, step, control)


def _loop_checked(state: RunState, step: StepState, control: ControlState, *, done: bool) -> None:
    if done:
        _collect(state, step)
    else:
        _iterate(state, step, control)


# --- the end ------------------------------------------------------------------------------------------


def _end_with(state: RunState, step: StepState, cause: Cause | None) -> None:
    """Everything within the step ended: put its outputs together, or fail for the same reason."""
    if cause is None:
        _collect(state, step)
        return
    path, failure = cause
    step.cause = cause
    message = f"{path!r} failed: {failure.message}"
    give_up(state, step, e.Failure(error_class=failure.error_class, message=message))


def _collect(state: RunState, step: StepState) -> None:
    step.status = StepStatus.COLLECTING
    state.agenda["collect", step.path] = c.CollectBlock(path=step.path)


def _complete(state: RunState, step: StepState) -> None:
    forget(state, step.path)
    end_step(state, step, StepStatus.COMPLETED)


def _approval_expired(state: RunState, step: StepState) -> None:
    policy = step.node.control
    if isinstance(policy, Approval) and policy.on_timeout != "fail":
        _complete(state, step)
        return
    stop_timer(state, ("timer", step.path))
    message = f"nobody answered {step.path!r} within {step.node.timeout:g} s"
    give_up(state, step, e.Failure(error_class=EXPIRED_CLASS, message=message))


def _child_ended(state: RunState, step: StepState, failure: e.Failure | None) -> None:
    control = _control_of(step)
    control.child_open = False
    forget(state, step.path)
    state.agenda.pop(("cancel", step.path), None)
    if step.status is StepStatus.STOPPING:
        _stopped(state, step)
    elif failure is None:
        end_step(state, step, StepStatus.COMPLETED)
    else:
        give_up(state, step, failure)


def _timed_out(state: RunState, step: StepState) -> None:
    """Abort what is within; the step fails once that has ended."""
    forget(state, step.path)
    message = f"{step.path!r} took longer than {step.node.timeout:g} s; raise its timeout_seconds"
    step.failure = e.Failure(error_class=TIMEOUT_CLASS, message=message)
    control = _control_of(step)
    if control.open or control.child_open:
        stop_control(state, step, control)
    else:
        give_up(state, step, step.failure)


def _stopped(state: RunState, step: StepState) -> None:
    if step.scope.stopping or step.failure is None:
        end_step(state, step, StepStatus.CANCELLED)
    else:
        give_up(state, step, step.failure)
