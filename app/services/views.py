"""Runs and workflows as readers see them, free of both wire format and storage.

Views share the run's data, they do not copy it. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.core.events import Failure
from app.core.state import StepState, StepStatus
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.history import STEP_STATUS_NAMES, AttemptRecord, History, StepHistory
from app.ports.models import counted
from app.ports.records import record
from app.ports.runs import RunRow, RunStatus, WorkflowRow
from app.services.step_selection import ALL_STEPS, StepsWanted, select_steps


@record
class RunSummary:
    """A run in a list."""

    id: str
    workflow: str
    version: str
    status: RunStatus
    priority: int
    labels: Mapping[str, str]
    created_at: float
    started_at: float | None
    finished_at: float | None
    parent_run_id: str | None


@record
class StepView:
    """One step instance of a run."""

    path: str
    type: str
    name: str | None
    status: str
    attempt: int
    """Number of the latest attempt; 0 before the first."""
    started_at: float | None
    finished_at: float | None
    retry_at: float | None
    skip_reason: str | None
    recovered: bool
    failure: Failure | None
    billing: Mapping[str, Any] | None
    source: Mapping[str, Any] | None
    """Where the outputs come from if no call was made: `{run_id | cache, saved}`."""
    outputs: Mapping[str, Any] | None
    attempts: Sequence[AttemptRecord]


@record
class Reused:
    """What was taken from other runs and the cache: how many steps, and the tokens of their calls."""

    steps: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0


@record
class RunView:
    """A run with its steps. `seq` is that of its latest event: equal seq, equal view."""

    summary: RunSummary
    seq: int
    inputs: Mapping[str, Any]
    outputs: Any
    failure: Failure | None
    failed_path: str | None
    cancel_reason: str | None
    pause_reason: str | None
    wake_at: float | None
    """When a run that waits goes on by itself."""
    input_tokens: int | None
    output_tokens: int | None
    reused: Reused
    steps: Sequence[StepView]
    steps_omitted: int
    """Steps that were asked for and are too many to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSummary:
    """A registered version in a list."""

    name: str
    version: str
    revision: int
    description: str | None
    labels: Mapping[str, str]
    created_at: float
    definition_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowView:
    """A registered version with its definition (canonical JSON)."""

    summary: WorkflowSummary
    document: bytes
    inputs_schema: Mapping[str, Any] | None
    steps: Sequence[tuple[str, str]]
    """Id and type of each step, in document order."""


def summary_of(row: RunRow) -> RunSummary:
    """A stored row for a list."""
    return RunSummary(
        id=row.id,
        workflow=row.workflow,
        version=row.version,
        status=row.status,
        priority=row.priority,
        labels=row.labels,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        parent_run_id=row.parent_run_id,
    )


def run_view(
    row: RunRow, workflow: CompiledWorkflow, history: History, wanted: StepsWanted = ALL_STEPS
) -> RunView:
    """A run out of its folded journal; of the row only what never changes is used. Raises `StepNotFound`."""
    summary = RunSummary(
        id=row.id,
        workflow=row.workflow,
        version=row.version,
        status=history.status,
        priority=row.priority,
        labels=row.labels,
        created_at=row.created_at,
        started_at=history.started_at,
        finished_at=history.ended_at,
        parent_run_id=row.parent_run_id,
    )
    input_tokens, output_tokens = history.billed_tokens()
    states, omitted = select_steps(history, wanted)
    return RunView(
        summary=summary,
        seq=history.seq,
        inputs=history.inputs,
        outputs=history.outputs,
        failure=history.failure,
        failed_path=history.failed_path,
        cancel_reason=history.cancel_reason,
        pause_reason=history.state.pause_reason,
        wake_at=history.wake_at if history.state.parked else None,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        reused=_reused(history),
        steps=[
            _step_view(workflow.steps[state.node.key], state, history.steps.get(state.path))
            for state in states
        ],
        steps_omitted=omitted,
    )


def _reused(history: History) -> Reused:
    sources = [step.source for step in history.steps.values() if step.source is not None]
    saved = [source["saved"] for source in sources if source.get("saved")]
    return Reused(
        steps=len(sources),
        input_tokens=counted(bill.get("input_tokens") for bill in saved),
        output_tokens=counted(bill.get("output_tokens") for bill in saved),
    )


def _step_view(step: CompiledStep, state: StepState, known: StepHistory | None) -> StepView:
    history = known or StepHistory()
    overcome = state.status is StepStatus.COMPLETED and not state.recovered
    return StepView(
        path=state.path,
        type=step.type,
        name=step.label,
        status=STEP_STATUS_NAMES[state.status],
        attempt=state.attempt,
        started_at=history.started_at,
        finished_at=history.ended_at,
        retry_at=state.retry_at,
        skip_reason=state.skip_reason,
        recovered=state.recovered,
        failure=None if overcome else state.failure,
        billing=history.billing,
        source=history.source,
        outputs=history.outputs,
        attempts=history.attempts,
    )


def workflow_summary(row: WorkflowRow) -> WorkflowSummary:
    """A stored row for a list."""
    return WorkflowSummary(
        name=row.name,
        version=row.version,
        revision=row.revision,
        description=row.description,
        labels=row.labels,
        created_at=row.created_at,
        definition_hash=row.definition_hash,
    )


def workflow_view(row: WorkflowRow, workflow: CompiledWorkflow) -> WorkflowView:
    """A stored row with what its document says."""
    return WorkflowView(
        summary=workflow_summary(row),
        document=workflow.definition.document,
        inputs_schema=workflow.inputs_schema,
        steps=[(step.id, step.type) for step in workflow.written_steps],
    )
