"""The control state of a run: statuses, attempts and counts, no outputs.

A `RunState` is changed by `app.core.scheduler.evolve` only. It is mutable so that one event costs what
the step's own edges cost, whatever the size of the run; an event that may not happen leaves it untouched.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from app.core.commands import Command, Outcome
from app.core.events import Failure, SkipReason
from app.core.plan import Block, Node, Plan

Stage = Literal["main", "on_failure", "finally"]
Cause = tuple[str, Failure]
"""The path of a step that failed for good, and why."""


class StepStatus(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    """Dependencies have not all ended."""
    EVALUATING = "evaluating"
    """Its condition is being evaluated."""
    READY = "ready"
    """It may start and waits for a free slot of the run, its turn in its block, or the end of a pause."""
    STARTING = "starting"
    """It has a slot; the start of an attempt was commanded."""
    RUNNING = "running"
    """An attempt is in flight."""
    FAILING = "failing"
    """It failed; what follows is being decided."""
    RETRYING = "retrying"
    """It waits for the next attempt."""
    ENTERING = "entering"
    """What a control step begins with is being evaluated."""
    OPEN = "open"
    """Steps within it are under way, or its loop's condition is being evaluated."""
    WAITING = "waiting"
    """It waits for a time, a person or another run."""
    COLLECTING = "collecting"
    """The steps within it ended; its outputs are being put together."""
    STOPPING = "stopping"
    """What is under way within it is being aborted."""
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


ENDED = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})


class RunPhase(StrEnum):
    """Where a run stands."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    ENDING = "ending"
    """It was cancelled or timed out: what is in flight is being aborted, or `finally` runs."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


TERMINAL_PHASES = frozenset({RunPhase.COMPLETED, RunPhase.FAILED, RunPhase.CANCELLED, RunPhase.TIMED_OUT})


@dataclass(slots=True, eq=False)
class Scope:
    """One time that a block runs: the instances of its steps share a prefix of their paths."""

    prefix: str
    """`each[3]`; empty for the workflow's own block."""
    owner: str | None
    """Path of the control step it belongs to."""
    block: Block
    open_steps: int
    index: int = 0
    """Number of the item or iteration."""
    limit: int | None = None
    """Steps that may be under way together."""
    active: int = 0
    queue: deque[str] = field(default_factory=deque)
    """Steps that wait for their turn, where there is a limit."""
    first_failure: Cause | None = None
    stopping: bool = False
    """Nothing further of it starts."""

    def path_of(self, step: str) -> str:
        """The path of one of its steps."""
        return f"{self.prefix}.{step}" if self.prefix else step


@dataclass(slots=True, eq=False)
class ControlState:
    """What a control step is about."""

    open: dict[int, Scope] = field(default_factory=dict)
    """Scopes that are under way, by index."""
    count: int = 0
    """Items, or iterations begun."""
    begun: int = 0
    """Items whose scope was opened."""
    failed: dict[int, Cause] = field(default_factory=dict)
    """Items that failed."""
    case: str | None = None
    """Of a branch: the case that was chosen, None for the default."""
    child: str | None = None
    """The id of the other run."""
    child_open: bool = False
    """That run was handed in, is waited for, and has not ended."""
    approval: str | None = None
    """The id of the approval."""
    due_at: float | None = None
    """When the wait is over or the answer is due."""
    instant: bool = False
    """That is a time of the calendar, which stands when the clock is set."""


@dataclass(slots=True, eq=False)
class StepState:
    """One step instance."""

    path: str
    node: Node
    scope: Scope
    waiting_for: int
    """Dependencies that have not ended."""
    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    """Number of the latest attempt."""
    tries: int = 0
    """Attempts that count against the policy: all but the lost and the deferred ones."""
    lost: int = 0
    completed_dependencies: int = 0
    failed_dependencies: int = 0
    """Dependencies that failed or were blocked by a failure."""
    admitted: bool = False
    """It counts as active in a scope with a limit."""
    first_started_at: float | None = None
    failure: Failure | None = None
    cause: Cause | None = None
    """Which step within it made it fail."""
    skip_reason: SkipReason | None = None
    recovered: bool = False
    retry_at: float | None = None
    control: ControlState | None = None


AgendaKey = tuple[str, str]


@dataclass(slots=True, eq=False)
class RunState:
    """One run. `agenda` holds the commands that are due and were not handed over yet."""

    run_id: str
    plan: Plan
    steps: dict[str, StepState]
    """Every step instance there is so far, by path."""
    root: Scope
    """The scope of the current stage."""
    stage: Stage = "main"
    phase: RunPhase | None = None
    """None before the first event."""
    now: float = 0.0
    """Time of the latest event."""
    outcome: Outcome | None = None
    """How the run is to end, once that is known."""
    failure: Cause | None = None
    """What made the run fail."""
    finishing: bool = False
    """Every stage has ended; the terminal event is due."""
    paused: bool = False
    pause_reason: str | None = None
    parked: bool = False
    running: dict[str, int] = field(default_factory=dict)
    """Attempts in flight: path → attempt, in order of their start."""
    slots: int = 0
    """Slots taken: attempts in flight and those whose start is commanded."""
    ready: deque[str] = field(default_factory=deque)
    """Steps that wait for a slot; what is no longer `READY` is passed over."""
    held: deque[str] = field(default_factory=deque)
    """Control steps that wait for the end of a pause; they need no slot."""
    agenda: dict[AgendaKey, Command] = field(default_factory=dict)
    timers: dict[AgendaKey, float] = field(default_factory=dict)
    """When each timer that runs is due."""
    ended_scopes: deque[Scope] = field(default_factory=deque)
    """Scopes whose last step ended within the event that is being folded."""

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.phase in TERMINAL_PHASES


def initial_state(run_id: str, plan: Plan) -> RunState:
    """The state before any event."""
    root = Scope(prefix="", owner=None, block=plan.main, open_steps=len(plan.main.nodes))
    steps = {
        node.id: StepState(node.id, node, root, waiting_for=len(node.depends_on)) for node in plan.main.nodes
    }
    return RunState(run_id=run_id, plan=plan, steps=steps, root=root)
