"""Plans on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from app.api.v1 import examples
from app.api.v1.schemas.budgets import RunBudget
from app.api.v1.schemas.problems import ProblemEntry
from app.api.v1.schemas.runs import RequestModel, ResponseModel, WorkflowName, WorkflowVersion


class PlanWorkflow(RequestModel):
    """A workflow and the inputs of a run of it."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SUBMIT_INLINE]})

    workflow: Annotated[
        WorkflowName | dict[str, Any],
        Field(description="A workflow definition, or the name of a registered workflow"),
    ]
    version: Annotated[
        WorkflowVersion | None, Field(description="Of a registered workflow; the newest if absent")
    ] = None
    inputs: Annotated[
        dict[str, Any], Field(description="Fit the workflow's `inputs` schema", default_factory=dict)
    ]
    budget: Annotated[RunBudget | None, Field(description="As for a run")] = None

    @model_validator(mode="after")
    def _version_of_a_name(self) -> Self:
        if self.version is not None and not isinstance(self.workflow, str):
            raise ValueError("version chooses among registered ones; an inline definition states its own")
        return self


Count = Annotated[int | None, Field(description="null: nothing bounds it, or it is not known before the run")]


class PlanBounds(ResponseModel):
    """The most that can be used, every retry included."""

    attempts: Count
    model_calls: Annotated[
        int | None, Field(description="Questions to models: attempts, fallbacks and repairs")
    ]
    input_tokens: Count
    output_tokens: Count
    cost_usd: Annotated[float | None, Field(description="null: not known, or a price is not")]
    input_tokens_estimate: Annotated[
        int | None, Field(description="What the input comes to, roughly, without retries; no bound")
    ]


class PlannedStep(ResponseModel):
    """One step before it runs."""

    step: Annotated[str, Field(description="Its key, such as `each.summarise` for a step within `each`")]
    type: str
    depends_on: list[str]
    known: Annotated[
        Literal["known", "sample", "partly", "unknown"],
        Field(description="How much of `config` is rendered; `sample`: all of it, for one item of a map"),
    ]
    config: Annotated[Any, Field(description="Rendered; null where something is not known")]
    needs: Annotated[list[str], Field(description="What is not known before the run, such as `steps.a.text`")]
    instances: Count
    at_most: PlanBounds
    notes: list[str]


class PlanBudget(ResponseModel):
    """The bounds of the run, and whether it can exceed them."""

    max_cost_usd: float | None
    max_tokens: int | None
    on_exceeded: Literal["fail", "pause"]
    verdict: Annotated[
        Literal["fits", "may_exceed", "exceeds", "unpriced", "unknown"],
        Field(
            description="`exceeds`: one attempt alone may use more than there is, so it will not be made; "
            "`unpriced`: neither will a call to a model of `unknown_prices`, so a run that comes to it fails"
        ),
    ]


class Plan(ResponseModel):
    """What a run would do and use at most."""

    name: str
    version: str
    inputs: Annotated[dict[str, Any], Field(description="With the schema's defaults")]
    steps: list[PlannedStep]
    at_most: PlanBounds
    budget: PlanBudget | None
    unknown_prices: Annotated[list[str], Field(description="`<provider>/<model>` without a price")]
    warnings: Annotated[
        list[ProblemEntry],
        Field(description="What the service's configuration lacks, and vectors that do not fit their index"),
    ]
