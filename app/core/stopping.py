"""Ends a scope early, with everything within it: for a cancellation, or for lack of time.

What has not started is cancelled at once. What is in flight is aborted, and so are other runs that are
waited for; the scope ends when the last of them has. In a scope that stops nothing further starts.
"""

from __future__ import annotations

from app.core import commands as c
from app.core.readiness import end_step, stop_timer
from app.core.state import ENDED, ControlState, RunState, Scope, StepState, StepStatus

_COMMANDS = ("condition", "start", "enter", "collect", "check", "child", "decision")
_TIMERS = ("timer", "block")


def stop_scope(state: RunState, scope: Scope) -> None:
    """Stop every step of a scope that has not ended."""
    scope.stopping = True
    scope.queue.clear()
    for node in scope.block.nodes:
        step = state.steps[scope.path_of(node.id)]
        if step.status not in ENDED:
            _stop_step(state, step)


def _stop_step(state: RunState, step: StepState) -> None:
    path = step.path
    forget(state, path)
    if path in state.running:
        state.agenda["cancel", path] = c.CancelAttempt(path=path, attempt=step.attempt)
    elif step.control is not None and (step.control.open or step.control.child_open):
        stop_control(state, step, step.control)
    else:
        if step.status is StepStatus.STARTING:
            state.slots -= 1
        end_step(state, step, StepStatus.CANCELLED)


def stop_control(state: RunState, step: StepState, control: ControlState) -> None:
    """Stop what is within a control step; it ends after that."""
    begins = step.status is not StepStatus.STOPPING
    step.status = StepStatus.STOPPING
    if begins and control.child_open and control.child is not None:
        state.agenda["cancel", step.path] = c.CancelChild(path=step.path, run_id=control.child)
    for scope in tuple(control.open.values()):
        if not scope.stopping:
            stop_scope(state, scope)


def forget(state: RunState, path: str) -> None:
    """Take everything about a step off the agenda."""
    for name in _COMMANDS:
        state.agenda.pop((name, path), None)
    for name in _TIMERS:
        stop_timer(state, (name, path))
