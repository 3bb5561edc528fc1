"""The `workflow` kind: another registered workflow, as a run of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from app.core.plan import Block, Child
from app.ports.problems import Problem
from app.steps.control import BaseControl
from app.steps.fields import Flag
from app.steps.kind import StepConfig, Templated

WorkflowName = Annotated[str, Field(min_length=1, max_length=128)]
WorkflowVersion = Annotated[str, Field(min_length=1, max_length=64)]


class WorkflowConfig(StepConfig):
    """Keys of a `workflow` step. Without `version` the newest one runs."""

    workflow: Templated[WorkflowName]
    """The name of a registered workflow."""
    version: Templated[WorkflowVersion] | None = None
    """If absent: the version that was registered last."""
    inputs: Templated[dict[str, Any]] = Field(default_factory=dict)
    """What the run is given; it must fit the inputs of that workflow."""
    wait: Flag = True
    """`false`: the step is completed as soon as the run is accepted."""
    distribute: Flag = Field(default=True, json_schema_extra={"const": True})
    """It always is: the run is one of its own, which any worker may execute. `false` is refused."""


class WorkflowKind(BaseControl):
    """Runs another workflow, and waits for its end unless `wait` is false.

    Outputs: `outputs` (what that run brings, null where nobody waits for it; each of them can also be read
    from the step itself) and `run_id`.
    """

    name: ClassVar[str] = "workflow"
    config_model: ClassVar[type[StepConfig]] = WorkflowConfig
    outputs: ClassVar[tuple[str, ...]] = ("outputs", "run_id")
    open: ClassVar[bool] = True

    def check(self, config: WorkflowConfig) -> Iterable[Problem]:
        """Refuse what cannot be: another workflow within the caller's own run."""
        if not config.distribute:
            yield Problem(
                pointer="/distribute",
                detail="a 'workflow' step always has a run of its own",
                hint="leave 'distribute' out, or write the steps of that workflow here",
            )

    def control(
        self, config: WorkflowConfig, blocks: Mapping[str | None, Block], *, conditional: bool
    ) -> Child:
        """A child."""
        return Child(wait=config.wait)
