"""Approvals on the wire. Answers are written by `app.api.v1.approvals`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.v1 import examples
from app.api.v1.schemas.runs import RUN_ID, RequestModel
from app.ports.runs import ApprovalStatus


class AnswerApproval(RequestModel):
    """What somebody decided."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.APPROVAL_ANSWER]})

    action: Literal["approve", "reject"]
    data: Annotated[Any, Field(description="Fits the approval's `form`; a rejection may leave it out")] = None


class ApprovalLinks(BaseModel):
    """Where it belongs."""

    self: str
    run: str


class Approval(BaseModel):
    """A question to a person, and the answer once there is one."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=RUN_ID)]
    run_id: Annotated[str, Field(pattern=RUN_ID)]
    path: Annotated[str, Field(description="The step that asks")]
    workflow: str
    status: ApprovalStatus
    message: str
    form: Annotated[dict[str, Any] | None, Field(description="A JSON Schema of the answer's `data`")]
    created_at: datetime
    expires_at: datetime | None
    action: Literal["approve", "reject"] | None
    answered_by: str | None
    answered_at: datetime | None
    links: ApprovalLinks


class ApprovalList(BaseModel):
    """A page of approvals, oldest first."""

    data: list[Approval]
    next_cursor: str | None
