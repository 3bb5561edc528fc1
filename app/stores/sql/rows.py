"""Rows of the database to and from the data classes of the ports; columns in the order of the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from app.ports.errors import StoreError
from app.ports.runs import ApprovalRow, IdempotencyRecord, JournalRow, RunRow, WorkflowRow

Row = Sequence[Any]


def _json(mapping: Mapping[str, str], what: str) -> str:
    if not mapping:
        return "{}"
    try:
        return orjson.dumps(dict(mapping)).decode()
    except TypeError as error:
        raise StoreError(f"{what} cannot be stored: they must map text to text in valid Unicode") from error


def _mapping(text: str) -> Mapping[str, str]:
    mapping: dict[str, str] = {} if text == "{}" else orjson.loads(text)
    return mapping


def run_parameters(run: RunRow) -> Row:
    """A row of `runs`."""
    return (
        run.id,
        run.tenant,
        run.workflow,
        run.version,
        run.status,
        run.definition_hash,
        run.priority,
        _json(run.labels, f"the labels of run {run.id!r}"),
        run.created_at,
        run.started_at,
        run.finished_at,
        run.parent_run_id,
        run.concurrency_key,
    )


def run_from(row: Row) -> RunRow:
    """A row of `runs` as the port speaks of it."""
    return RunRow(
        id=row[0],
        tenant=row[1],
        workflow=row[2],
        version=row[3],
        status=row[4],
        definition_hash=row[5],
        priority=row[6],
        labels=_mapping(row[7]),
        created_at=row[8],
        started_at=row[9],
        finished_at=row[10],
        parent_run_id=row[11],
        concurrency_key=row[12],
    )


def event_from(run_id: str, row: Row) -> JournalRow:
    """A row of `journal` without its run_id."""
    return JournalRow(run_id=run_id, seq=row[0], type=row[1], payload=row[2], at=row[3])


def approval_parameters(approval: ApprovalRow) -> Row:
    """A row of `approvals`. Raises `StoreError` for a form that is no JSON."""
    try:
        form = None if approval.form is None else orjson.dumps(approval.form).decode()
    except TypeError as error:
        raise StoreError(
            f"the form of approval {approval.id!r} cannot be stored: it must be JSON in valid Unicode"
        ) from error
    return (
        approval.id,
        approval.tenant,
        approval.run_id,
        approval.path,
        approval.workflow,
        approval.message,
        form,
        approval.created_at,
        approval.expires_at,
        approval.status,
        approval.action,
        approval.answered_by,
        approval.answered_at,
    )


def approval_from(row: Row) -> ApprovalRow:
    """A row of `approvals`."""
    return ApprovalRow(
        id=row[0],
        tenant=row[1],
        run_id=row[2],
        path=row[3],
        workflow=row[4],
        message=row[5],
        form=None if row[6] is None else orjson.loads(row[6]),
        created_at=row[7],
        expires_at=row[8],
        status=row[9],
        action=row[10],
        answered_by=row[11],
        answered_at=row[12],
    )


def workflow_parameters(workflow: WorkflowRow, revision: int) -> Row:
    """A row of `workflows` with the revision the store gives it."""
    return (
        workflow.tenant,
        workflow.name,
        workflow.version,
        revision,
        workflow.definition_hash,
        workflow.description,
        _json(workflow.labels, f"the labels of workflow {workflow.name!r}"),
        workflow.created_at,
    )


def workflow_from(row: Row) -> WorkflowRow:
    """A row of `workflows`."""
    return WorkflowRow(
        tenant=row[0],
        name=row[1],
        version=row[2],
        revision=row[3],
        definition_hash=row[4],
        description=row[5],
        labels=_mapping(row[6]),
        created_at=row[7],
    )


def idempotency_parameters(record: IdempotencyRecord) -> Row:
    """A row of `idempotency`."""
    return (
        record.tenant,
        record.key,
        record.fingerprint,
        record.status_code,
        _json(record.headers, f"the headers kept under idempotency key {record.key!r}"),
        record.body,
        record.created_at,
    )


def idempotency_from(row: Row) -> IdempotencyRecord:
    """A row of `idempotency`."""
    return IdempotencyRecord(
        tenant=row[0],
        key=row[1],
        fingerprint=row[2],
        status_code=row[3],
        headers=_mapping(row[4]),
        body=row[5],
        created_at=row[6],
    )
