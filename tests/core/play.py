"""Runs played by hand: the events a test gives, and the core's own decisions folded in between."""

from __future__ import annotations

from collections.abc import Sequence

from app.core import commands as c
from app.core import events as e
from app.core.plan import Block, Node, Plan
from app.core.scheduler import decide, evolve
from app.core.state import RunState, initial_state

PERMANENT = e.Failure(error_class="invalid_request", message="wrong")
TEMPORARY = e.Failure(error_class="timeout", message="slow", temporary=True)
CANCEL = e.CancelRequested(reason=None, at=1.0)
PAUSE = e.RunPaused(reason="look", at=1.0)
RESUME = e.RunResumed(at=2.0)


def block(*nodes: Node) -> Block:
    return Block(nodes=nodes)


def play(plan: Plan, *events: e.Event) -> RunState:
    """A run that was started, and what happened to it since."""
    state = initial_state("r", plan)
    fold(state, e.RunSubmitted(at=0.0), e.RunStarted(at=0.0), *events)
    return state


def begin(*nodes: Node) -> RunState:
    return play(Plan(main=block(*nodes)))


def fold(state: RunState, *events: e.Event) -> Sequence[c.Command]:
    """Fold events in, and the decisions that need nobody; returns the other commands."""
    commands: list[c.Command] = []
    for event in events:
        evolve(state, event)
        while due := decide(state):
            commands.extend(command for command in due if not isinstance(command, c.Record))
            for command in due:
                if isinstance(command, c.Record):
                    evolve(state, command.event)
    return commands


def started(path: str, attempt: int = 1) -> e.Event:
    return e.AttemptStarted(path=path, attempt=attempt, at=1.0)


def done(path: str, attempt: int = 1) -> Sequence[e.Event]:
    """A try that went well."""
    return (started(path, attempt), e.StepSucceeded(path=path, attempt=attempt, at=1.0))


def failed(path: str, attempt: int = 1, failure: e.Failure = PERMANENT) -> Sequence[e.Event]:
    """A try that did not."""
    return (
        started(path, attempt),
        e.AttemptFailed(path=path, attempt=attempt, failure=failure, at=1.0),
    )


def start(path: str, attempt: int = 1) -> c.Command:
    return c.StartAttempt(path=path, attempt=attempt)
