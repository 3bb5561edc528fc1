"""A workflow ready to run: the graph for the scheduler, and what each step is for the runner.

Everything here is immutable and belongs to one definition; runs share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.plan import Plan
from app.dsl.inputs import Inputs
from app.dsl.naming import OutputNames
from app.ports.runs import Definition
from app.steps.kind import StepKind
from app.templating.compiler import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStep:
    """One step. Its place in the graph and its policies are in the plan's node of the same id."""

    id: str
    type: str
    label: str | None
    """What its author calls it."""
    kind: StepKind
    config: Compiled
    """The kind's own keys, to be rendered when an attempt starts."""
    condition: Compiled | None
    on_error_value: Compiled | None
    """Set if the step goes on with a value when it fails."""
    names: OutputNames
    timeout: float | None
    """Bounds one attempt, in seconds."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """The author's names of the outputs, by position."""
        return self.names.given


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledWorkflow:
    """One version of a workflow."""

    name: str
    version: str
    description: str | None
    labels: Mapping[str, str]
    plan: Plan
    steps: Mapping[str, CompiledStep]
    outputs: Compiled | None
    """None: the document has no `outputs`, and `leaves` stand for them."""
    leaves: tuple[str, ...]
    """Steps that no other step depends on, in document order. Without `outputs` the outputs of a run are
    `{step: first output}` of those among them that completed."""
    inputs: Inputs
    document: Mapping[str, Any]
    definition: Definition

    @property
    def inputs_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of the inputs, where the author gave one."""
        return self.inputs.schema

    def validate_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs completed with the schema's defaults. Raises `InputsInvalid`."""
        return self.inputs.validate(inputs)
