"""Budgets of runs on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RunBudget(BaseModel):
    """What one run may use. Of the document's budget and this one, the smaller bound of each sort holds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_cost_usd: Annotated[
        float | None, Field(gt=0, le=1_000_000, allow_inf_nan=False, description="US dollars")
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=10**12, description="In and out together")] = None
    on_exceeded: Annotated[
        Literal["fail", "pause"] | None, Field(description="The document's word if absent, else `fail`")
    ] = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.max_cost_usd is None and self.max_tokens is None:
            raise ValueError("give max_cost_usd, max_tokens or both")
        return self

    def given(self) -> dict[str, Any]:
        """What it says."""
        return self.model_dump(exclude_none=True)


class ResumeRun(BaseModel):
    """How a paused run goes on."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"budget": {"max_cost_usd": 2.5}}]}
    )

    budget: Annotated[
        RunBudget | None, Field(description="Bounds that hold from here on instead of those of before")
    ] = None
