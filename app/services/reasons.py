"""Why a step is where it is, as one answer; and the run as those who find the answers see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from app.core.events import Failure
from app.core.plan import Node
from app.core.state import StepState
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.history import STEP_STATUS_NAMES, History, StepHistory
from app.engines.rundata import RunData
from app.ports.runs import RunRow
from app.services.operands import condition_told
from app.services.run_events import failure_data
from app.services.written_steps import written_steps

Reason = Literal[
    # it has not begun
    "run_pending",
    "dependencies",
    "evaluating_condition",
    "run_paused",
    "turn_in_block",
    "run_slots",
    "process_slots",
    # it is under way
    "entering",
    "running",
    "retrying",
    "deciding",
    "steps_within",
    "checking_loop",
    "waiting_until",
    "approval",
    "child_run",
    "collecting",
    "stopping",
    # it has ended
    "completed",
    "recovered",
    "from_cache",
    "reused",
    "failed",
    "tries_used_up",
    "condition_failed",
    "failed_within",
    "child_failed",
    "not_answered",
    "condition",
    "upstream_skipped",
    "upstream_failed",
    "run_on",
    "run_cancelled",
    "run_timed_out",
    "run_ended",
    "block_timed_out",
    # its block was not opened
    "block_not_begun",
    "other_case_taken",
    "item_not_begun",
    "iteration_not_begun",
    "iteration_not_needed",
    "stage_not_reached",
]
REASONS: Final[tuple[str, ...]] = get_args(Reason)
SeeKind = Literal["run", "approval"]
MOST_NAMED: Final = 10
"""Steps that one answer names in each of its lists."""
MOST_SAID: Final = 3
"""Steps that a sentence names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class See:
    """Where to read on, by id."""

    kind: SeeKind
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Because:
    """One answer. `details` is JSON, `causes` are paths of steps of the same run."""

    reason: Reason
    summary: str
    details: Mapping[str, Any] = field(default_factory=dict)
    causes: Sequence[str] = ()
    see: Mapping[str, See] = field(default_factory=dict)


class Seen:
    """One run, folded. What is looked up in its document is looked up once."""

    def __init__(self, row: RunRow, workflow: CompiledWorkflow, history: History) -> None:
        self.row = row
        self.workflow = workflow
        self.history = history
        self.state = history.state
        self._data = RunData(workflow, history)
        self._written: Mapping[str, Mapping[str, Any]] | None = None

    def compiled(self, node: Node) -> CompiledStep:
        """The definition of a step."""
        return self.workflow.steps[node.key]

    def record(self, step: StepState) -> StepHistory:
        """What is known of an instance besides its control state."""
        return self.history.steps.get(step.path) or StepHistory()

    def condition(self, step: StepState) -> Mapping[str, Any]:
        """The gate of a step, with its operands."""
        return self._told(step, self.compiled(step.node).condition)

    def selector(self, step: StepState) -> Mapping[str, Any]:
        """What chooses the case of a branch, with its operands."""
        return self._told(step, self.compiled(step.node).config)

    def _told(self, step: StepState, compiled: Any) -> Mapping[str, Any]:
        if self._written is None:
            self._written = dict(written_steps(self.workflow.document))
        written = self._written.get(step.node.key, {}).get("condition")
        return condition_told(self._data, step.path, written, compiled)

    def dependencies(self, step: StepState) -> list[StepState]:
        """The steps that a step waits for, in the order of its definition."""
        return [self.state.steps[step.scope.path_of(other)] for other in step.node.depends_on]


def status_of(step: StepState) -> str:
    """The status as the API names it."""
    return STEP_STATUS_NAMES[step.status]


def named(steps: Sequence[StepState]) -> list[dict[str, str]]:
    """Steps with their statuses, the first few."""
    return [{"path": step.path, "status": status_of(step)} for step in steps[:MOST_NAMED]]


def listed(paths: Sequence[str]) -> str:
    """Paths in a sentence, the first few."""
    shown = [repr(path) for path in paths[:MOST_SAID]]
    if len(paths) > len(shown):
        shown.append(f"{len(paths) - len(shown)} more")
    *first, last = shown or [""]
    return f"{', '.join(first)} and {last}" if first else last


def with_reason(what: str, reason: str | None) -> str:
    """A sentence, with what somebody gave as the reason."""
    return f"{what}: {reason.rstrip('.')}." if reason else f"{what}."


def error_of(failure: Failure | None, path: str) -> Mapping[str, Any] | None:
    """A failure as callers see it."""
    return None if failure is None else failure_data(failure, path)
