"""What a reader asks of a run, on the wire. Answers are written by `app.api.v1.run_reading_rendering`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.v1.schemas.runs import RUN_ID, ResponseModel, RunError, StepStatus
from app.ports.runs import RunStatus
from app.services.reasons import Reason

RunId = Annotated[str, Field(pattern=RUN_ID)]


class CauseOfStep(ResponseModel):
    """A step that made another one be where it is."""

    path: str
    status: StepStatus
    reason: Reason
    summary: str


class StepExplanation(ResponseModel):
    """Why a step is where it is. `reason` is for programs, `summary` for people."""

    run_id: RunId
    path: str
    type: Annotated[str, Field(description="The kind of step")]
    status: Annotated[
        StepStatus, Field(description="Of a step whose block was not opened: `pending` while it may be")
    ]
    reason: Reason
    summary: str
    details: Annotated[dict[str, Any], Field(description="By the reason; may grow")]
    caused_by: Annotated[list[CauseOfStep], Field(description="Nearest first, down to those without a cause")]
    more_causes: Annotated[bool, Field(description="There are more than are listed")]
    see: Annotated[dict[str, str], Field(description="Where to read on, by relation")]


class GraphParts(ResponseModel):
    """The items of a map, or the iterations of a loop."""

    total: int
    by_status: dict[str, int]
    omitted: Annotated[int, Field(description="Those that are no nodes of their own")]


class GraphNode(ResponseModel):
    """A step, or an item or iteration of one. Without a run there is no state: `status` is null."""

    id: Annotated[str, Field(description="Unique in the graph; of what is there in the run its path")]
    path: Annotated[str | None, Field(description="The step's path in the run, once that is settled")]
    step: Annotated[str, Field(description="The key of the step in the definition")]
    type: Annotated[str, Field(description="The kind of step; `item` or `iteration` for a part of one")]
    name: str | None
    parent: Annotated[str | None, Field(description="The node that this one is within")]
    stage: Literal["main", "on_failure", "finally"]
    case: Annotated[str | None, Field(description="The case of the branch that it belongs to")]
    index: Annotated[int | None, Field(description="The number of an item or iteration, from 0")]
    conditional: Annotated[bool, Field(description="It has a condition")]
    status: StepStatus | None
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    retry_at: datetime | None
    skip_reason: Literal["condition", "upstream_skipped", "upstream_failed", "run_on"] | None
    recovered: bool
    taken: Annotated[str | None, Field(description="The case that a branch took")]
    parts: GraphParts | None


class GraphEdge(ResponseModel):
    """The target waits for the source."""

    source: str
    target: str
    kind: Annotated[
        Literal["dependency", "condition"],
        Field(description="`condition`: the target's condition reads what the source brings"),
    ]


class WorkflowGraph(ResponseModel):
    """A definition as a graph."""

    workflow: str
    version: str
    nodes: Annotated[list[GraphNode], Field(description="Each behind its parent")]
    edges: list[GraphEdge]


class RunGraph(WorkflowGraph):
    """A run as a graph, with the state of every step."""

    run_id: RunId
    status: RunStatus
    seq: Annotated[int, Field(description="Of the latest event that it shows")]


class Change(ResponseModel):
    """One difference. Long texts are told as a unified diff."""

    pointer: str
    change: Literal["added", "removed", "changed"]
    a: Any
    b: Any
    diff: str | None
    cut: Annotated[bool, Field(description="Something of it is not shown")]


class Difference(ResponseModel):
    """How two values differ, by JSON Pointer."""

    same: bool
    changes: list[Change]
    complete: Annotated[bool, Field(description="Every change is listed")]


class WrittenStepDiff(ResponseModel):
    """A step of the definitions, by its key."""

    step: str
    change: Literal["added", "removed", "changed"]
    keys: Difference


class DefinitionDiff(ResponseModel):
    """What is written differently."""

    same: bool
    workflow: Annotated[Difference, Field(description="The keys beside the steps")]
    steps: list[WrittenStepDiff]
    steps_omitted: int


class DiffedRun(ResponseModel):
    """One of the two runs. `seconds` is its duration once it has ended."""

    id: RunId
    workflow: str
    version: str
    status: RunStatus
    error: RunError | None
    created_at: datetime
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    definition_hash: str
    links: dict[str, str]


class DiffedStep(ResponseModel):
    """A step in one of the runs."""

    status: StepStatus
    attempt: int
    seconds: float | None
    input_tokens: int | None
    output_tokens: int | None
    reused: Annotated[bool, Field(description="No call was made for it")]


class StepDiff(ResponseModel):
    """A step in both runs; null where it is not there."""

    path: str
    a: DiffedStep | None
    b: DiffedStep | None
    rendered: Annotated[
        Literal["same", "different", "unknown"],
        Field(description="Whether what it was asked is the same: prompt, model and all else, rendered"),
    ]
    outputs: Difference


class RunDiff(ResponseModel):
    """What is different between two runs."""

    same: Annotated[bool, Field(description="Definition, inputs, outputs and status are the same")]
    a: DiffedRun
    b: DiffedRun
    definition: DefinitionDiff
    inputs: Difference
    outputs: Difference
    steps: Annotated[
        list[StepDiff], Field(description="Those of the workflow itself; of those within, what differs")
    ]
    steps_same: Annotated[int, Field(description="Steps within others that do not differ")]
    steps_omitted: Annotated[int, Field(description="Steps that differ and are too many to be listed")]
