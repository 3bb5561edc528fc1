"""Runs, events and answers for the tests of the stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.ports.runs import ApprovalRow, Definition, IdempotencyRecord, JournalRow, RunRow, WorkflowRow

DEFINITION = Definition(hash="d1", document=b'{"name":"w"}')
NOON = 1_800_000_000.0


def a_run(run_id: str = "r1", **changes: Any) -> RunRow:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "workflow": "w",
        "version": "1",
        "status": "pending",
        "definition_hash": "d1",
        "priority": 0,
        "labels": {},
        "created_at": NOON,
    }
    return RunRow(id=run_id, **(fields | changes))


def an_event(seq: int, run_id: str = "r1", payload: bytes = b"{}") -> JournalRow:
    return JournalRow(run_id=run_id, seq=seq, type="StepSucceeded", payload=payload, at=NOON + seq / 7)


def events(first: int, last: int, run_id: str = "r1") -> list[JournalRow]:
    return [an_event(seq, run_id) for seq in range(first, last + 1)]


def an_answer(
    key: str = "k1", tenant: str = "t1", created_at: float = NOON, body: bytes = b""
) -> IdempotencyRecord:
    return IdempotencyRecord(
        tenant=tenant,
        key=key,
        fingerprint="f" * 64,
        status_code=202,
        headers={"location": "/v1/runs/r1"},
        body=body,
        created_at=created_at,
    )


def a_workflow(version: str = "1", labels: Mapping[str, str] | None = None, **changes: Any) -> WorkflowRow:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "name": "w",
        "revision": 0,
        "definition_hash": "d1",
        "description": None,
        "created_at": NOON,
    }
    return WorkflowRow(version=version, labels=labels or {}, **(fields | changes))


def an_approval(approval_id: str = "a1", **changes: Any) -> ApprovalRow:
    fields: dict[str, Any] = {
        "tenant": "t1",
        "run_id": "r1",
        "path": "ask",
        "workflow": "w",
        "message": "Send it?",
        "form": {"type": "object", "properties": {"ü": {"enum": [1, 0.5, None]}}},
        "created_at": NOON,
        "expires_at": NOON + 60,
    }
    return ApprovalRow(id=approval_id, **(fields | changes))
