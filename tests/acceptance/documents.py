"""Steps and workflows that the acceptance tests run, and what is read of a run."""

from __future__ import annotations

from typing import Any, Final

STALLS: Final = "fault:stall"
"""The model of the simulator that never answers."""


def ask(name: str, *, model: str = "m", provider: str = "sim", **more: Any) -> dict[str, Any]:
    """A step that asks a model; the echo provider answers with what it was asked."""
    step = {"id": name, "type": "llm", "provider": provider, "model": model, "prompt": f"say {name}"}
    return {**step, **more}


def transform(name: str, expression: str, **more: Any) -> dict[str, Any]:
    """A step that calls nobody."""
    return {"id": name, "type": "transform", "expression": expression, **more}


def approval(name: str = "ask", **more: Any) -> dict[str, Any]:
    """A question to a person."""
    return {"id": name, "type": "approval", "message": "May it?", **more}


def call(workflow: str, name: str = "call", **more: Any) -> dict[str, Any]:
    """A run of another workflow."""
    return {"id": name, "type": "workflow", "workflow": workflow, **more}


def flow(*steps: dict[str, Any], name: str = "flow", **more: Any) -> dict[str, Any]:
    """A workflow of these steps."""
    return {"name": name, "steps": list(steps), **more}


def completed(run: dict[str, Any]) -> dict[str, Any]:
    """The outputs of a run that completed."""
    assert run["status"] == "completed", run["error"]
    outputs: dict[str, Any] = run["outputs"]
    return outputs


def statuses(run: dict[str, Any]) -> dict[str, str]:
    """Of its steps, by path."""
    return {step["path"]: step["status"] for step in run["steps"]}
