"""The data of a run as its templates see it.

Holds outputs by step beside the control state; it decides nothing. The mapping it gives is the live one:
renders are synchronous or copy it, so nobody sees it change under them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.events import Failure
from app.dsl.compiled import CompiledWorkflow
from app.engines.history import History


class RunData:
    """Names of one run: `inputs` (and `input`), `steps`, `outputs`, `run`."""

    def __init__(self, workflow: CompiledWorkflow, history: History) -> None:
        self._workflow = workflow
        self._steps: dict[str, Any] = {}
        self._outputs: dict[str, Any] = {}
        self.names: dict[str, Any] = {
            "steps": self._steps,
            "outputs": self._outputs,
            "run": {
                "id": history.state.run_id,
                "workflow": workflow.name,
                "version": workflow.version,
            },
        }
        self.submitted(history.inputs)
        for path, step in history.steps.items():
            if step.outputs is not None:
                self.succeeded(path, step.outputs)
            elif (failure := history.state.steps[path].failure) is not None:
                self.failed(path, failure)

    def submitted(self, inputs: Mapping[str, Any]) -> None:
        """The inputs are known."""
        self.names["inputs"] = self.names["input"] = inputs

    def succeeded(self, path: str, outputs: Mapping[str, Any]) -> None:
        """A step has outputs now, by its kind's own names."""
        names = self._workflow.steps[path].names
        self._steps[path] = names.under_steps(outputs)
        self._outputs.update(names.under_outputs(outputs))

    def failed(self, path: str, failure: Failure) -> None:
        """A step failed: its handlers may read why."""
        self._steps[path] = {"error": {"class": failure.error_class, "message": failure.message}}
