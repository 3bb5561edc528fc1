"""Usage of runs on the wire."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from app.api.v1.schemas.runs import RUN_ID, ResponseModel

Cost = Annotated[
    float | None, Field(description="US dollars; null where a price, or what it is paid for, is not known")
]
Tokens = Annotated[int | None, Field(description="Null where no vendor counted them")]


class UsageFigures(ResponseModel):
    """Sums over calls to models."""

    calls: Annotated[int, Field(description="That were answered; those that failed are in `attempts` only")]
    input_tokens: Tokens
    output_tokens: Tokens
    cached_tokens: Annotated[
        int | None,
        Field(description="Of the input, what vendors read from their caches; null where none counted it"),
    ]
    reasoning_tokens: Annotated[
        int | None, Field(description="Of the output, what models thought; null where no vendor counted it")
    ]
    cost_usd: Cost


class RunFigures(UsageFigures):
    """Sums over a whole run."""

    attempts: int


class StepFigures(RunFigures):
    """All instances of one step."""

    step: Annotated[str, Field(description="Its key, such as `each.summarise` for a step within `each`")]
    type: str
    instances: int


class ModelFigures(UsageFigures):
    """All calls to one model."""

    provider: str
    model: str | None


class ChildLinks(ResponseModel):
    """Where a called run's own usage is."""

    run: str
    usage: str


class ChildFigures(UsageFigures):
    """What a run used that a step called, without what it called in turn."""

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    path: str
    links: ChildLinks


class BudgetState(ResponseModel):
    """The bounds that hold, and what counts against them."""

    max_cost_usd: float | None
    max_tokens: int | None
    on_exceeded: Literal["fail", "pause"]
    charged_tokens: Annotated[
        int, Field(description="Called runs included, and the most that calls of unknown outcome can use")
    ]
    charged_cost_usd: float


class RunUsage(ResponseModel):
    """What a run used; called runs stand in `children` and count in `budget` only."""

    run_id: Annotated[str, Field(pattern=RUN_ID)]
    total: RunFigures
    saved: Annotated[UsageFigures, Field(description="Calls not made, for their outcome was known")]
    steps: list[StepFigures]
    models: list[ModelFigures]
    children: list[ChildFigures]
    children_omitted: Annotated[int, Field(description="Called runs beyond the first, or not there")]
    unknown_prices: Annotated[
        list[str], Field(description="`<provider>/<model>` whose price or tokens are not known")
    ]
    budget: BudgetState | None
