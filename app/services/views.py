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
from app.ports.runs import RunRow, RunStatus, WorkflowRow


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
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
    outputs: Mapping[str, Any] | None
    attempts: Sequence[AttemptRecord]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run with its steps. `seq` is that of its latest event: equal seq, equal view."""

    summary: RunSummary
    seq: int
    inputs: Mapping[str, Any]
    outputs: Any
    failure: Failure | None
    failed_path: str | None
    cancel_reason: str | None
    input_tokens: int
    output_tokens: int
    steps: Sequence[StepView]


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


def run_view(row: RunRow, workflow: CompiledWorkflow, history: History) -> RunView:
    """A run out of its folded journal; of the row only what never changes is used."""
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
    states = history.state.steps
    return RunView(
        summary=summary,
        seq=history.seq,
        inputs=history.inputs,
        outputs=history.outputs,
        failure=history.failure,
        failed_path=history.failed_path,
        cancel_reason=history.cancel_reason,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        steps=[
            _step_view(workflow.steps[path], state, history.steps.get(path)) for path, state in states.items()
        ],
    )


def _step_view(step: CompiledStep, state: StepState, known: StepHistory | None) -> StepView:
    history = known or StepHistory()
    overcome = state.status is StepStatus.COMPLETED and not state.recovered
    return StepView(
        path=step.id,
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
        steps=[(step.id, step.type) for step in workflow.steps.values()],
    )
