"""The control state of a run: statuses, attempts and counts, no outputs.

A `RunState` is changed by `app.core.scheduler.evolve` only. It is mutable so that one event costs what
the step's own edges cost, whatever the size of the run; an event that may not happen leaves it untouched.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from app.core.commands import Command, Outcome
from app.core.events import Failure, SkipReason
from app.core.plan import Plan


class StepStatus(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    """Dependencies have not all ended."""
    EVALUATING = "evaluating"
    """Its condition is being evaluated."""
    READY = "ready"
    """It may start and waits for a free slot of the run."""
    STARTING = "starting"
    """It has a slot; the start of an attempt was commanded."""
    RUNNING = "running"
    FAILING = "failing"
    """An attempt failed; what follows is being decided."""
    RETRYING = "retrying"
    """It waits for the next attempt."""
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
    """It was cancelled or timed out, and attempts in flight are being aborted."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


TERMINAL_PHASES = frozenset({RunPhase.COMPLETED, RunPhase.FAILED, RunPhase.CANCELLED, RunPhase.TIMED_OUT})


@dataclass(slots=True)
class StepState:
    """One step instance."""

    waiting_for: int
    """Dependencies that have not ended."""
    status: StepStatus = StepStatus.PENDING
    attempt: int = 0
    """Number of the latest attempt."""
    tries: int = 0
    """Attempts that count against the policy: all but the lost ones."""
    completed_dependencies: int = 0
    failed_dependencies: int = 0
    """Dependencies that failed or were blocked by a failure."""
    first_started_at: float | None = None
    failure: Failure | None = None
    skip_reason: SkipReason | None = None
    recovered: bool = False
    retry_at: float | None = None


AgendaKey = tuple[str, str]


@dataclass(slots=True)
class RunState:
    """One run. `agenda` holds the commands that are due and were not handed over yet."""

    run_id: str
    plan: Plan
    steps: dict[str, StepState]
    phase: RunPhase | None = None
    """None before the first event."""
    now: float = 0.0
    """Time of the latest event."""
    open_steps: int = 0
    ending: Outcome | None = None
    first_failure: tuple[str, Failure] | None = None
    running: dict[str, int] = field(default_factory=dict)
    """Attempts in flight: path → attempt, in order of their start."""
    slots: int = 0
    """Slots taken: attempts in flight and those whose start is commanded."""
    ready: deque[str] = field(default_factory=deque)
    agenda: dict[AgendaKey, Command] = field(default_factory=dict)

    @property
    def terminal(self) -> bool:
        """Whether the run has ended."""
        return self.phase in TERMINAL_PHASES


def initial_state(run_id: str, plan: Plan) -> RunState:
    """The state before any event."""
    steps = {node.id: StepState(waiting_for=len(node.depends_on)) for node in plan.nodes}
    return RunState(run_id=run_id, plan=plan, steps=steps, open_steps=len(steps))
