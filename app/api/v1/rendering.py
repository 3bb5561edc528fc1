"""Views to JSON bytes: the shape of every response under `/v1`.

Written by hand with orjson, because this is the hot path; `app.api.v1.schemas` documents the same shapes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final
from urllib.parse import quote

import orjson

from app.api.problems import problem_entry
from app.core.events import Failure
from app.dsl.compiled import CompiledWorkflow
from app.engines.engine import CancelReceipt
from app.engines.history import AttemptRecord
from app.ports.buffers import trimmed
from app.ports.problems import Problem
from app.ports.runs import RunRow, RunStatus
from app.services.run_events import RunEvent, failure_data, source_data
from app.services.timestamps import rfc3339, rfc3339_or_none
from app.services.views import Reused, RunSummary, RunView, StepView, WorkflowSummary, WorkflowView

JSON: Final = "application/json"
_OPTIONS: Final = orjson.OPT_NON_STR_KEYS


def run_path(run_id: str) -> str:
    """Where a run is."""
    return f"/v1/runs/{run_id}"


def workflow_path(name: str) -> str:
    """Where a workflow is."""
    return f"/v1/workflows/{quote(name, safe='')}"


def version_path(name: str, version: str) -> str:
    """Where a version is."""
    return f"{workflow_path(name)}/versions/{quote(version, safe='')}"


def render_accepted(run: RunRow) -> bytes:
    """`RunAccepted`."""
    return trimmed(orjson.dumps({"id": run.id, "status": run.status, "links": _run_links(run.id)}))


def render_control(run_id: str, status: RunStatus) -> bytes:
    """`RunAccepted`, of a run that was there before."""
    return orjson.dumps({"id": run_id, "status": status, "links": _run_links(run_id)})


def render_run(view: RunView, include: Collection[str] = ()) -> bytes:
    """`Run`."""
    outputs, attempts = "outputs" in include, "attempts" in include
    body = _summary(view.summary)
    body["inputs"] = view.inputs
    body["outputs"] = view.outputs
    body["error"] = None if view.failure is None else failure_data(view.failure, view.failed_path)
    body["cancel_reason"] = view.cancel_reason
    body["pause_reason"] = view.pause_reason
    body["wake_at"] = rfc3339_or_none(view.wake_at)
    body["usage"] = {"input_tokens": view.input_tokens, "output_tokens": view.output_tokens}
    body["reused"] = _reused(view.reused)
    body["steps"] = [_step(step, outputs=outputs, attempts=attempts) for step in view.steps]
    body["steps_omitted"] = view.steps_omitted
    return orjson.dumps(body, option=_OPTIONS)


def render_runs(items: Collection[RunSummary], next_cursor: str | None) -> bytes:
    """`RunList`."""
    return orjson.dumps({"data": [_summary(item) for item in items], "next_cursor": next_cursor})


def render_receipt(run_id: str, receipt: CancelReceipt) -> bytes:
    """`CancelReceipt`."""
    body = {
        "id": run_id,
        "status": "cancelling",
        "calls_aborted": list(receipt.calls_aborted),
        "unknown_effects": list(receipt.unknown_effects),
        "usage": {"input_tokens": receipt.input_tokens, "output_tokens": receipt.output_tokens},
        "links": _run_links(run_id),
    }
    return orjson.dumps(body)


def render_event(event: RunEvent) -> bytes:
    """`Event`, on one line."""
    body = {
        "seq": event.seq,
        "type": event.type,
        "run_id": event.run_id,
        "path": event.path,
        "attempt": event.attempt,
        "at": rfc3339(event.at),
        "data": event.data,
    }
    return orjson.dumps(body, option=_OPTIONS)


def render_workflow(view: WorkflowView) -> bytes:
    """`Workflow`."""
    return orjson.dumps(_workflow(view))


def render_registered(view: WorkflowView, warnings: Collection[Problem]) -> bytes:
    """`RegisteredWorkflow`."""
    return orjson.dumps({**_workflow(view), "warnings": _warnings(warnings)})


def render_workflows(items: Collection[WorkflowSummary], next_cursor: str | None) -> bytes:
    """`WorkflowList`."""
    return orjson.dumps({"data": [_workflow_summary(item) for item in items], "next_cursor": next_cursor})


def render_valid(workflow: CompiledWorkflow, warnings: Collection[Problem]) -> bytes:
    """`ValidWorkflow`."""
    body = {
        "valid": True,
        "name": workflow.name,
        "version": workflow.version,
        "inputs_schema": workflow.inputs_schema,
        "steps": [{"id": step.id, "type": step.type} for step in workflow.written_steps],
        "warnings": _warnings(warnings),
    }
    return orjson.dumps(body)


def _run_links(run_id: str) -> Mapping[str, str]:
    path = run_path(run_id)
    return {"self": path, "events": path + "/events", "cancel": path + "/cancel"}


def _summary(run: RunSummary) -> dict[str, Any]:
    return {
        "id": run.id,
        "workflow": run.workflow,
        "version": run.version,
        "status": run.status,
        "priority": run.priority,
        "labels": run.labels,
        "created_at": rfc3339(run.created_at),
        "started_at": rfc3339_or_none(run.started_at),
        "finished_at": rfc3339_or_none(run.finished_at),
        "parent_run_id": run.parent_run_id,
        "links": _run_links(run.id),
    }


def _step(step: StepView, *, outputs: bool, attempts: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "path": step.path,
        "type": step.type,
        "name": step.name,
        "status": step.status,
        "attempt": step.attempt,
        "started_at": rfc3339_or_none(step.started_at),
        "finished_at": rfc3339_or_none(step.finished_at),
        "retry_at": rfc3339_or_none(step.retry_at),
        "skip_reason": step.skip_reason,
        "recovered": step.recovered,
        "error": _error(step.failure, step.path),
        "usage": step.billing,
        "source": None if step.source is None else source_data(step.source),
    }
    if outputs:
        body["outputs"] = step.outputs
    if attempts:
        body["attempts"] = [_attempt(attempt, step.path) for attempt in step.attempts]
    return body


def _reused(reused: Reused) -> Mapping[str, int | None]:
    return {
        "steps": reused.steps,
        "input_tokens": reused.input_tokens,
        "output_tokens": reused.output_tokens,
    }


def _attempt(attempt: AttemptRecord, path: str) -> dict[str, Any]:
    return {
        "attempt": attempt.attempt,
        "started_at": rfc3339(attempt.started_at),
        "finished_at": rfc3339_or_none(attempt.ended_at),
        "outcome": attempt.outcome,
        "error": _error(attempt.failure, path),
    }


def _error(failure: Failure | None, path: str) -> Mapping[str, Any] | None:
    return None if failure is None else failure_data(failure, path)


def _workflow(view: WorkflowView) -> dict[str, Any]:
    body = _workflow_summary(view.summary)
    body["inputs_schema"] = view.inputs_schema
    body["steps"] = [{"id": step, "type": kind} for step, kind in view.steps]
    body["definition"] = orjson.Fragment(view.document)
    return body


def _warnings(warnings: Collection[Problem]) -> list[dict[str, Any]]:
    return [problem_entry(warning) for warning in warnings]


def _workflow_summary(workflow: WorkflowSummary) -> dict[str, Any]:
    path = workflow_path(workflow.name)
    return {
        "name": workflow.name,
        "version": workflow.version,
        "revision": workflow.revision,
        "description": workflow.description,
        "labels": workflow.labels,
        "created_at": rfc3339(workflow.created_at),
        "links": {
            "self": version_path(workflow.name, workflow.version),
            "versions": path + "/versions",
            "runs": path + "/runs",
        },
    }
