"""Batches of runs and controls of many runs on the wire. Requests are validated by these models, responses
only documented by them."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, model_validator

from app.api.v1 import bulk_examples as examples
from app.api.v1.parameters import CURSOR, BodyTime
from app.api.v1.schemas.runs import (
    RUN_ID,
    Labels,
    Reason,
    RequestModel,
    ResponseModel,
    RunOptions,
    WorkflowName,
    WorkflowVersion,
)
from app.ports.runs import RunStatus
from app.services.batches import MOST_RUNS
from app.services.bulk import MOST_RUNS as MOST_CONTROLLED
from app.services.run_labels import BATCH


class BatchRun(RunOptions):
    """What one run of a batch gets."""


class SubmitBatch(RequestModel):
    """Runs of one inline definition or of one registered workflow."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SUBMIT_BATCH]})

    workflow: Annotated[
        WorkflowName | dict[str, Any],
        Field(description="A workflow definition, or the name of a registered workflow"),
    ]
    version: Annotated[
        WorkflowVersion | None, Field(description="Of a registered workflow; the newest if absent")
    ] = None
    runs: Annotated[list[BatchRun], Field(min_length=1, max_length=MOST_RUNS)]
    labels: Labels = Field(default_factory=dict, description="Of every run; its own win where both name one")

    @model_validator(mode="after")
    def _version_of_a_name(self) -> Self:
        if self.version is not None and not isinstance(self.workflow, str):
            raise ValueError("version chooses among registered ones; an inline definition states its own")
        return self


class BatchLinks(ResponseModel):
    """Where the runs are."""

    runs: str


class BatchAccepted(ResponseModel):
    """The runs are durable and will be executed."""

    batch: Annotated[str, Field(pattern=RUN_ID, description=f"The runs bear it as their label `{BATCH}`")]
    count: Annotated[int, Field(ge=1, le=MOST_RUNS)]
    run_ids: Annotated[list[str], Field(description="In the order of the request")]
    links: BatchLinks


class RunSelection(RequestModel):
    """Which runs; every member that is there must hold, and one must be."""

    status: Annotated[list[RunStatus] | None, Field(min_length=1, max_length=9)] = None
    workflow: Annotated[WorkflowName | None, Field(description="Name of the workflow")] = None
    labels: Labels = Field(default_factory=dict, description="Every one must match")
    created_after: Annotated[BodyTime | None, Field(description="Created later than this")] = None
    created_before: Annotated[BodyTime | None, Field(description="Created earlier than this")] = None


class ControlRuns(RequestModel):
    """Which runs, and how many of them in this call."""

    filter: RunSelection
    limit: Annotated[int, Field(ge=1, le=MOST_CONTROLLED, description="Runs to look at in this call")] = (
        MOST_CONTROLLED
    )
    cursor: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=512,
            pattern=CURSOR,
            description="`next_cursor` of the call before; repeat its filter",
        ),
    ] = None


class CancelRuns(ControlRuns):
    """Runs to cancel, and why."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.BULK_CANCEL]})

    reason: Reason = None


class RetryRuns(ControlRuns):
    """Runs to try again."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.BULK_RETRY]})


class RefusedRun(ResponseModel):
    """A run that was left as it is. `code` is that of the refusal it would have got alone."""

    id: Annotated[str, Field(pattern=RUN_ID)]
    code: str
    detail: str


class BulkOutcome(ResponseModel):
    """What became of the runs that were looked at."""

    matched: Annotated[int, Field(ge=0, description="Runs that were looked at")]
    accepted: Annotated[int, Field(ge=0)]
    failed: list[RefusedRun]
    next_cursor: Annotated[str | None, Field(description="Where to go on; null: there are no more")]
