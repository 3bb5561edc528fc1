"""What must be true after every single event, whatever the run."""

from __future__ import annotations

from collections.abc import Set

from app.core import commands as c
from app.core import events as e
from app.core.plan import Loop, Map
from app.core.state import ENDED, AgendaKey, RunState, Scope, StepState, StepStatus

STARTS = ("start", "enter")
OF_STEPS = (*STARTS, "condition", "check", "collect", "child", "decision")
UNDER_WAY = frozenset(StepStatus) - ENDED - {StepStatus.PENDING, StepStatus.EVALUATING}
Begun = Set[AgendaKey]


def begun(state: RunState) -> Begun:
    """What is commanded already, before an event."""
    return frozenset(state.agenda)


def check_moment(state: RunState, event: e.Event, before: Begun) -> None:
    """Raise `AssertionError` if the event led where no run may be."""
    assert len(state.running) <= state.slots or state.terminal
    assert state.slots <= state.plan.max_concurrency
    assert not state.ended_scopes
    for key, command in state.agenda.items():
        if key not in before:
            _check_new_command(state, key, command)
    path = getattr(event, "path", None)
    if path is not None and path in state.steps:
        _check_around(state, state.steps[path])


def _check_new_command(state: RunState, key: AgendaKey, command: c.Command) -> None:
    name, path = key
    starts = name in STARTS or (isinstance(command, c.Record) and isinstance(command.event, e.BlockEntered))
    assert not (starts and state.paused), f"{command} while the run is paused"
    if name in OF_STEPS:
        assert not state.steps[path].scope.stopping, f"{command} in a block that is being stopped"


def _check_around(state: RunState, step: StepState) -> None:
    """The scope of the step, and every control step around it."""
    _check_scope(state, step.scope)
    while step.scope.owner is not None:
        scope, step = step.scope, state.steps[step.scope.owner]
        control = step.control
        assert control is not None
        assert step.status not in ENDED or all(_ended(state, one) for one in (scope, *control.open.values()))
        match step.node.control:
            case Map(max_concurrency=limit):
                assert len(control.open) <= limit
                assert control.begun <= control.count
                assert all(index < control.begun for index in control.open)
            case Loop(max_iterations=most):
                assert len(control.open) <= 1
                assert control.count <= most


def _check_scope(state: RunState, scope: Scope) -> None:
    steps = [state.steps[scope.path_of(node.id)] for node in scope.block.nodes]
    under_way = sum(step.status in UNDER_WAY and step.first_started_at is not None for step in steps)
    assert scope.limit is None or under_way <= scope.limit or scope.stopping
    assert scope.open_steps == sum(step.status not in ENDED for step in steps) or state.terminal
    assert all(step.scope is scope for step in steps), "a block was opened twice"


def _ended(state: RunState, scope: Scope) -> bool:
    return all(state.steps[scope.path_of(node.id)].status in ENDED for node in scope.block.nodes)
