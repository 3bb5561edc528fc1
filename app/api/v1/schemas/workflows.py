"""Registered workflows on the wire. The DSL validates documents; responses are only documented here."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.v1.schemas.problems import ProblemEntry
from app.api.v1.schemas.runs import ResponseModel


class WorkflowLinks(ResponseModel):
    """Where the workflow goes on."""

    self: str
    versions: str
    runs: str


class WorkflowSummary(ResponseModel):
    """A registered version in a list."""

    name: str
    version: str
    revision: Annotated[int, Field(ge=1, description="Counts the versions of a name")]
    description: str | None
    labels: dict[str, str]
    created_at: datetime
    links: WorkflowLinks


class WorkflowStep(ResponseModel):
    """A step of a definition."""

    id: str
    type: str


class Workflow(WorkflowSummary):
    """A registered version with its definition."""

    inputs_schema: Annotated[
        dict[str, Any] | None, Field(description="JSON Schema 2020-12 of a run's `inputs`; null: anything")
    ]
    steps: list[WorkflowStep]
    definition: dict[str, Any]


Warnings = Annotated[
    list[ProblemEntry],
    Field(
        description="Names in the document that the service's configuration does not have, and uses of one "
        "index that do not go together"
    ),
]


class RegisteredWorkflow(Workflow):
    """A registered version, and what the service lacks for running it."""

    warnings: Warnings


class WorkflowList(ResponseModel):
    """A page of workflows or versions."""

    data: list[WorkflowSummary]
    next_cursor: str | None


class ValidWorkflow(ResponseModel):
    """The document could be registered as it is."""

    valid: Literal[True]
    name: str
    version: str
    inputs_schema: dict[str, Any] | None
    steps: list[WorkflowStep]
    warnings: Warnings
