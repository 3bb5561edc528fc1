"""What the journal keeps of a submission, beside the event that says it was accepted."""

from __future__ import annotations

from typing import Any

from app.engines.budget import budget_data
from app.engines.engine import Submission


def submitted_data(submission: Submission) -> dict[str, Any]:
    """A JSON object; `app.engines.history` reads it back."""
    run = submission.run
    data: dict[str, Any] = {
        "definition": submission.definition.hash,
        "tenant": run.tenant,
        "inputs": submission.inputs,
        "timeout": submission.timeout_seconds,
    }
    if run.labels:
        data["labels"] = run.labels
    if run.priority:
        data["priority"] = run.priority
    if run.concurrency_key is not None:
        data["concurrency_key"] = run.concurrency_key
    if submission.caller is not None:
        run_id, path = submission.caller
        data["caller"] = {
            "run_id": run_id,
            "path": path,
            "depth": submission.depth,
            "awaited_by": submission.awaited_by,
        }
        if submission.item:
            data["caller"]["item"] = True
    if submission.reuse is not None:
        data["reuse"] = {"run_id": submission.reuse, "fresh": sorted(submission.fresh)}
    if submission.budget is not None:
        data["budget"] = budget_data(submission.budget)
    return data
