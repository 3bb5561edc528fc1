"""Events of runs on the wire. They are written by `app.api.v1.rendering`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.services.run_events import EventType


class Event(BaseModel):
    """One event of a run."""

    model_config = ConfigDict(extra="forbid")

    seq: Annotated[
        int | None, Field(ge=1, description="Place in the journal, with gaps; null for `step.delta`")
    ]
    type: EventType
    run_id: str
    path: Annotated[str | None, Field(description="The step; null for events of the run")]
    attempt: int | None
    at: datetime
    data: dict[str, Any]
