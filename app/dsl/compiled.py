"""A workflow ready to run: the graph for the scheduler, and what each step is for the runner.

Everything here is immutable and belongs to one definition; runs share it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from app.core.plan import Plan
from app.dsl.inputs import Inputs
from app.dsl.naming import OutputNames
from app.ports.index_contracts import Offered
from app.ports.problems import Problem
from app.ports.runs import Definition
from app.steps.control import ControlKind
from app.steps.kind import StepKind
from app.templating.compiler import Compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledCache:
    """How long a step's outputs stand in for the step, and under which key."""

    ttl_seconds: float
    key: Compiled | None
    """None: the content of the rendered step is the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrencyRule:
    """How many runs of one key may be under way together, and what becomes of one too many."""

    key: Compiled | None
    """None: all runs of the workflow share one key."""
    limit: int
    on_limit: Literal["queue", "reject", "cancel_oldest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a run may use at most; None is no bound."""

    max_cost_usd: float | None = None
    max_tokens: int | None = None
    on_exceeded: Literal["fail", "pause"] = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexUse:
    """A step that searches an index or writes to one, as far as its document tells."""

    key: str
    pointer: str
    """Where its vectors stand in the document."""
    writes: bool
    database: str | None
    """None: a template says it."""
    index: str | None
    made_by: str | None
    """The model of the `embed` steps that its vectors come from, if it is one: a name, or a template that
    reads inputs alone. None where the step names a model itself."""
    offered: Offered
    """Its vectors."""
    mixes: tuple[str, ...] = ()
    """Models of which several may have made them, with or without their author's intent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledStep:
    """One step, shared by all its instances. Its place in the graph and its policies are in the plan's node
    of the same key."""

    id: str
    key: str
    type: str
    label: str | None
    """What its author calls it."""
    kind: StepKind | ControlKind
    config: Compiled
    """The kind's own keys but blocks, to be rendered when an attempt starts or a control step is entered."""
    condition: Compiled | None
    on_error_value: Compiled | None
    """Set if the step goes on with a value when it fails."""
    names: OutputNames
    timeout: float | None
    """Bounds one attempt, in seconds."""
    until: Compiled | None = None
    """A loop's condition; it sees the names of the iteration that just ended."""
    item_name: str = "item"
    """What the templates within a map call an item."""
    cache: CompiledCache | None = None
    embedding_model: Compiled | None = None
    """What made the vectors that the step searches with or writes, where the document tells; reads inputs
    alone."""

    @property
    def output_names(self) -> tuple[str, ...]:
        """The author's names of the outputs, by position."""
        return self.names.given


NamePath = tuple[str, ...]
"""A root name of templates, and members of it: `("steps", "embed", "vector")`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemNames:
    """The names that the run of one item of a distributed map is given with its inputs, beside `index`."""

    map: str
    """The key of the map."""
    item: str
    """What its templates call the item."""
    reads: tuple[NamePath, ...]
    """What they read from around the map; none is a member of another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledWorkflow:
    """One version of a workflow, or what it does with one item of a distributed map."""

    name: str
    version: str
    description: str | None
    labels: Mapping[str, str]
    plan: Plan
    """What a run executes: in the place of the steps of a distributed map it has the runs of its items."""
    steps: Mapping[str, CompiledStep]
    """Every step of every block, by key; those of distributed maps and the runs of their items both."""
    outputs: Compiled | None
    """None: the document has no `outputs`, and `leaves` stand for them."""
    leaves: tuple[str, ...]
    """Steps that no other step depends on, in document order. Without `outputs` the outputs of a run are
    `{step: first output}` of those among them that completed."""
    inputs: Inputs
    concurrency: ConcurrencyRule | None = None
    budget: Budget | None = None
    index_uses: tuple[IndexUse, ...] = ()
    """Of every step that searches an index or writes to one, in document order."""
    warnings: tuple[Problem, ...] = ()
    """What its author may not have meant; without places in a text."""
    document: Mapping[str, Any]
    definition: Definition
    undistributed: Plan | None = None
    """The plan with the steps of distributed maps in it; None where there is no such map."""
    item_workflows: Mapping[str, CompiledWorkflow] = field(default_factory=dict)
    """What is done with an item of each distributed map, by the key of the step that is its run."""
    item: ItemNames | None = None
    """Set where this is what is done with an item."""

    @property
    def written_plan(self) -> Plan:
        """The plan with every step that its author wrote."""
        return self.undistributed or self.plan

    @property
    def written_steps(self) -> Sequence[CompiledStep]:
        """The steps that its author wrote, in document order."""
        return [step for key, step in self.steps.items() if key not in self.item_workflows]

    @property
    def inputs_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of the inputs, where the author gave one."""
        return self.inputs.schema

    def validate_inputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs completed with the schema's defaults. Raises `InputsInvalid`."""
        return self.inputs.validate(inputs)
