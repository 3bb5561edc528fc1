"""The cost of a run grows with what happens in it, in a straight line: counted, not timed."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from app.core import commands as c
from app.core import events as e
from app.core.plan import Block, Control, Loop, Map, Node, Parallel, Plan
from app.core.scheduler import decide, evolve
from app.core.state import RunPhase, RunState, initial_state
from tests.core.answers import answers

FEW, MANY = 1_000, 10_000
AT_MOST = 10.5
"""Times as much, for ten times as many."""
ITEM = Block(nodes=(Node(id="step", key="each.step"),))


def run_of(control: Control) -> RunState:
    return initial_state("r", Plan(main=Block(nodes=(Node(id="each", control=control),))))


def play(state: RunState, *, items: int = 0, events: int | None = None) -> None:
    """Everything goes well, one thing after the other: to the end, or for so many events."""
    rng = random.Random(0)
    todo: list[e.Event] = [e.RunStarted(at=0.0), e.RunSubmitted(at=0.0)]
    while todo and events != 0:
        event = todo.pop()
        evolve(state, event)
        events = None if events is None else events - 1
        if isinstance(event, e.AttemptStarted):
            todo.append(e.StepSucceeded(path=event.path, attempt=event.attempt, at=0.0))
        for command in decide(state):
            match command:
                case c.EnterStep(path=path):
                    todo.append(e.ItemsCounted(path=path, count=items, at=0.0))
                case c.CheckLoop(path=path, iteration=number):
                    todo.append(e.LoopChecked(path=path, iteration=number, done=False, at=0.0))
                case _:
                    todo.append(answers(command, state, 0.0, rng)[0])


def calls_of(action: Callable[[], Any]) -> int:
    """How many calls, of Python and of C, an action takes."""
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(before)
    return calls


def cost_of_a_run(control: Control, items: int = 0) -> int:
    state = run_of(control)
    calls = calls_of(lambda: play(state, items=items))
    assert state.phase is RunPhase.COMPLETED
    return calls


def chain(length: int) -> Block:
    """Steps of which each depends on the one before."""
    return Block(nodes=tuple(Node(id=f"s{n}", depends_on=(f"s{n - 1}",) if n else ()) for n in range(length)))


def fan(length: int) -> Block:
    """Steps that depend on nothing, and one that depends on all of them."""
    names = tuple(f"s{n}" for n in range(length))
    return Block(nodes=(*(Node(id=name) for name in names), Node(id="last", depends_on=names)))


@pytest.mark.parametrize("limit", [1, 16, 100_000])
def test_a_map_of_ten_times_the_items_costs_ten_times_as_much(limit: int) -> None:
    control = Map(body=ITEM, max_concurrency=limit)
    assert cost_of_a_run(control, MANY) < AT_MOST * cost_of_a_run(control, FEW)


def test_a_loop_of_ten_times_the_iterations_costs_ten_times_as_much() -> None:
    few, many = (cost_of_a_run(Loop(body=ITEM, max_iterations=most)) for most in (FEW, MANY))
    assert many < AT_MOST * few


@pytest.mark.parametrize("graph", [chain, fan])
@pytest.mark.parametrize("limit", [1, None])
def test_a_block_of_ten_times_the_steps_costs_ten_times_as_much(
    graph: Callable[[int], Block], limit: int | None
) -> None:
    few, many = (cost_of_a_run(Parallel(body=graph(size), max_concurrency=limit)) for size in (FEW, MANY))
    assert many < AT_MOST * few


def test_cancelling_a_map_costs_what_is_under_way_whatever_has_ended() -> None:
    costs = []
    for events in (FEW, MANY):
        state = run_of(Map(body=ITEM, max_concurrency=10))
        play(state, items=MANY, events=events)
        cancel = e.CancelRequested(reason=None, at=0.0)
        costs.append(calls_of(partial(evolve, state, cancel)))
    early, late = costs
    assert late == early
