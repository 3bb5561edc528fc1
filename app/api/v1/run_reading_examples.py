"""Examples of explanations, graphs and diffs. A test validates each against its schema."""

from __future__ import annotations

from typing import Any, Final

_RUN_ID: Final = "0197d6a0-7c1e-7000-8000-000000000000"
_OTHER_ID: Final = "0197d6a0-7c1e-7000-8000-000000000002"
_RUN: Final = f"/v1/runs/{_RUN_ID}"
EXPLANATION: Final[dict[str, Any]] = {
    "run_id": _RUN_ID,
    "path": "send",
    "type": "http",
    "status": "skipped",
    "reason": "upstream_skipped",
    "summary": "It was skipped because all that it depends on was: 'greeting'.",
    "details": {"dependencies": [{"path": "greeting", "status": "skipped"}]},
    "caused_by": [
        {
            "path": "greeting",
            "status": "skipped",
            "reason": "condition",
            "summary": "It was skipped because its condition does not hold: inputs.polite == true",
        }
    ],
    "more_causes": False,
    "see": {"run": _RUN, "graph": f"{_RUN}/graph", "events": f"{_RUN}/events"},
}


def _node(step: str, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "id": step,
        "path": step,
        "step": step,
        "type": kind,
        "name": None,
        "parent": None,
        "stage": "main",
        "case": None,
        "index": None,
        "conditional": False,
        "status": None,
        "attempt": 0,
        "started_at": None,
        "finished_at": None,
        "retry_at": None,
        "skip_reason": None,
        "recovered": False,
        "taken": None,
        "parts": None,
        **more,
    }


_EDGES: Final = [{"source": "greeting", "target": "send", "kind": "dependency"}]
WORKFLOW_GRAPH: Final[dict[str, Any]] = {
    "workflow": "greet",
    "version": "1.0",
    "nodes": [_node("greeting", "llm", conditional=True), _node("send", "http")],
    "edges": _EDGES,
}
RUN_GRAPH: Final[dict[str, Any]] = {
    "run_id": _RUN_ID,
    "workflow": "greet",
    "version": "1.0",
    "status": "running",
    "seq": 4,
    "nodes": [
        _node(
            "greeting",
            "llm",
            conditional=True,
            status="running",
            attempt=1,
            started_at="2026-01-31T12:00:00.001000Z",
        ),
        _node("send", "http", status="pending"),
    ],
    "edges": _EDGES,
}
_SAME: Final = {"same": True, "changes": [], "complete": True}


def _diffed(run_id: str, version: str, seconds: float) -> dict[str, Any]:
    return {
        "id": run_id,
        "workflow": "greet",
        "version": version,
        "status": "completed",
        "error": None,
        "created_at": "2026-01-31T12:00:00.000000Z",
        "seconds": seconds,
        "input_tokens": 14,
        "output_tokens": 6,
        "definition_hash": "0" * 64,
        "links": {"self": f"/v1/runs/{run_id}", "graph": f"/v1/runs/{run_id}/graph"},
    }


def _changed(pointer: str, a: str, b: str) -> dict[str, Any]:
    change = {"pointer": pointer, "change": "changed", "a": a, "b": b, "diff": None, "cut": False}
    return {"same": False, "changes": [change], "complete": True}


def _diffed_step(seconds: float) -> dict[str, Any]:
    return {
        "status": "completed",
        "attempt": 1,
        "seconds": seconds,
        "input_tokens": 14,
        "output_tokens": 6,
        "reused": False,
    }


RUN_DIFF: Final[dict[str, Any]] = {
    "same": False,
    "a": _diffed(_RUN_ID, "1.0", 0.62),
    "b": _diffed(_OTHER_ID, "1.1", 0.71),
    "definition": {
        "same": False,
        "workflow": _changed("/version", "1.0", "1.1"),
        "steps": [
            {
                "step": "greeting",
                "change": "changed",
                "keys": _changed("/prompt", "Greet {{ inputs.who }}.", "Welcome {{ inputs.who }}."),
            }
        ],
        "steps_omitted": 0,
    },
    "inputs": _SAME,
    "outputs": _changed("/greeting", "Good morning, Ada!", "Welcome, Ada!"),
    "steps": [
        {
            "path": "greeting",
            "a": _diffed_step(0.61),
            "b": _diffed_step(0.7),
            "rendered": "different",
            "outputs": _changed("/text", "Good morning, Ada!", "Welcome, Ada!"),
        }
    ],
    "steps_same": 0,
    "steps_omitted": 0,
}
