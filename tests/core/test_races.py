"""Cancellation, completion and every time-out at once, in any order: one end, and nothing after it."""

from __future__ import annotations

import random
from collections import Counter

from app.core import commands as c
from app.core import events as e
from app.core.plan import Approval, Block, Child, Map, Node, Plan, RetryPolicy
from app.core.scheduler import decide, evolve
from app.core.state import ENDED, RunPhase, RunState, initial_state
from app.core.transitions import accepts
from tests.core.answers import answers

RACES = 10_000
FAILURE = e.Failure(error_class="timeout", message="slow", temporary=True)
RETRY = RetryPolicy(max_attempts=2, retry_on=frozenset({"timeout"}), jitter="none")
PLAN = Plan(
    main=Block(
        nodes=(
            Node(id="call", timeout=1.0, retry=RETRY),
            Node(id="other", timeout=1.0, control=Child()),
            Node(
                id="each",
                timeout=1.0,
                control=Map(body=Block(nodes=(Node(id="ask", key="each.ask", control=Approval()),))),
            ),
        )
    ),
    timeout=1.0,
    finally_=Block(nodes=(Node(id="tidy"),)),
)


def race(seed: int) -> tuple[RunState, list[e.Event], list[e.Event]]:
    """Everything that may happen is on its way at once; what arrives is up to chance.

    Returns the run, its journal, and what arrived after its end.
    """
    rng = random.Random(seed)
    state, journal, late = initial_state("r", PLAN), list[e.Event](), list[e.Event]()
    arriving: list[e.Event] = []
    cancels = {rng.randrange(2, 30), rng.randrange(2, 60)}

    def take(event: e.Event) -> None:
        journal.append(event)
        if len(journal) in cancels:
            arriving.append(e.CancelRequested(reason=None, at=1.0))
        for command in decide(evolve(state, event)):
            answer, *_ = *answers(command, state, 1.0, rng), None
            if answer is None:
                continue
            if isinstance(command, c.StartTimer | c.CancelAttempt | c.CancelChild | c.LaunchChild):
                arriving.append(answer)
            else:
                pending.append(answer)

    pending: list[e.Event] = [e.RunSubmitted(at=0.0), e.RunStarted(at=0.0)]
    while pending or arriving:
        event = pending.pop(0) if pending else arriving.pop(rng.randrange(len(arriving)))
        if state.terminal:
            late.append(event)
        elif accepts(state, event):
            take(event)
            arriving.extend(_outcomes(event, rng))
    return state, journal, late


def _outcomes(event: e.Event, rng: random.Random) -> list[e.Event]:
    """What somebody outside makes of it."""
    match event:
        case e.AttemptStarted(path=path, attempt=attempt) if rng.random() < 0.5:
            return [e.AttemptFailed(path=path, attempt=attempt, failure=FAILURE, at=1.0)]
        case e.AttemptStarted(path=path, attempt=attempt):
            return [e.StepSucceeded(path=path, attempt=attempt, at=1.0)]
        case e.ApprovalRequested(path=path):
            return [e.ApprovalAnswered(path=path, action="approve", by=None, at=1.0)]
        case _:
            return []


def test_ten_thousand_races_of_the_end_have_one_terminal_state_each() -> None:
    ends = Counter[RunPhase | None]()
    for seed in range(RACES):
        state, journal, late = race(seed)
        assert state.terminal, seed
        assert sum(isinstance(event, e.TERMINAL) for event in journal) == 1, seed
        assert isinstance(journal[-1], e.TERMINAL), seed
        assert not any(accepts(state, event) for event in late), seed
        assert all(step.status in ENDED for step in state.steps.values()), seed
        ends[state.phase] += 1
    assert {RunPhase.COMPLETED, RunPhase.FAILED, RunPhase.CANCELLED, RunPhase.TIMED_OUT} == set(ends)
