"""Schedules on the wire. Requests are validated by these models, responses only documented by them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from app.api.v1 import schedule_examples as examples
from app.api.v1.parameters import BodyTime
from app.api.v1.schemas.runs import (
    LABEL_NAME,
    MAX_PRIORITY,
    MAX_TIMEOUT_SECONDS,
    RUN_ID,
    RequestModel,
    ResponseModel,
    WorkflowName,
    WorkflowVersion,
)
from app.ports.schedules import CatchUp, FireOutcome, Overlap
from app.services.cron_words import MOST_CHARACTERS
from app.services.run_labels import MOST_LABELS
from app.services.schedule_views import ScheduleState

OWN_LABELS = 2
"""Labels that the service adds to a run of a schedule."""
MAX_INTERVAL_SECONDS = 366 * 24 * 3600
MAX_CATCH_UP_SECONDS = 30 * 24 * 3600
DAY_SECONDS = 24 * 3600


ScheduleLabels = Annotated[
    dict[Annotated[str, Field(pattern=LABEL_NAME)], Annotated[str, Field(max_length=256)]],
    Field(max_length=MOST_LABELS - OWN_LABELS, json_schema_extra={"additionalProperties": False}),
]
Version = Annotated[WorkflowVersion | None, Field(description="The newest at each fire if absent")]


class ScheduleSettings(RequestModel):
    """What runs, and when: `cron` or `interval_seconds`, one of them."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SETTINGS, examples.INTERVAL]})

    name: Annotated[WorkflowName, Field(description="Unique; runs bear it as their label `schedule`")]
    workflow: Annotated[WorkflowName, Field(description="Name of a registered workflow")]
    version: Version = None
    inputs: dict[str, Any] = Field(default_factory=dict, description="Fit the workflow's `inputs` schema")
    labels: ScheduleLabels = Field(default_factory=dict, description="Of every run")
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Of every run")] = 0
    timeout_seconds: Annotated[
        float | None, Field(gt=0, le=MAX_TIMEOUT_SECONDS, description="Bounds every run from its start")
    ] = None
    cron: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MOST_CHARACTERS,
            description="Minute, hour, day of month, month, day of week; or `@hourly`, `@daily`, …",
        ),
    ] = None
    interval_seconds: Annotated[
        int | None,
        Field(ge=1, le=MAX_INTERVAL_SECONDS, description="Elapsed time, counted from `start_at` or from now"),
    ] = None
    time_zone: Annotated[str, Field(max_length=64, description="IANA name; what `cron` is read in")] = "UTC"
    overlap: Annotated[Overlap, Field(description="What a fire does while the run before is active")] = "skip"
    catch_up: Annotated[
        CatchUp, Field(description="Which fires to make up that came while nobody looked")
    ] = "latest"
    catch_up_seconds: Annotated[
        int, Field(ge=0, le=MAX_CATCH_UP_SECONDS, description="Older ones are never made up")
    ] = DAY_SECONDS
    start_at: Annotated[BodyTime | None, Field(description="No fire before it")] = None
    end_at: Annotated[BodyTime | None, Field(description="No fire after it")] = None
    paused: Annotated[bool | None, Field(description="Absent: not for a new schedule, else unchanged")] = None


class Fire(ResponseModel):
    """What became of a fire time."""

    fire_at: datetime
    outcome: FireOutcome
    at: Annotated[datetime, Field(description="When that was decided")]
    run_id: Annotated[str | None, Field(pattern=RUN_ID)]
    detail: Annotated[str | None, Field(description="Why there is no run")]
    manual: Annotated[bool, Field(description="It was triggered, and is no time of the schedule")]


class FireCounts(ResponseModel):
    """How many fires ended how; of one outage at most 100 are counted as missed."""

    started: int
    skipped: int
    failed: int
    missed: int


class ScheduleLinks(ResponseModel):
    """Where the schedule goes on."""

    self: str
    runs: str
    last_run: str | None


class ScheduleSummary(ResponseModel):
    """A schedule in a list."""

    id: Annotated[str, Field(pattern=RUN_ID)]
    name: str
    state: Annotated[ScheduleState, Field(description="`ended`: it will not fire any more")]
    workflow: str
    version: str | None
    cron: str | None
    interval_seconds: int | None
    time_zone: str
    overlap: Overlap
    catch_up: CatchUp
    catch_up_seconds: int
    start_at: datetime | None
    end_at: datetime | None
    next_fire_at: datetime | None
    last_fire: Fire | None
    last_run_id: Annotated[str | None, Field(pattern=RUN_ID)]
    counts: FireCounts
    revision: Annotated[int, Field(ge=1, description="Counts the changes of the settings")]
    created_at: datetime
    updated_at: datetime
    links: ScheduleLinks


class Schedule(ScheduleSummary):
    """A schedule with what its runs get, and its near future and past."""

    inputs: dict[str, Any]
    labels: dict[str, str]
    priority: int
    timeout_seconds: float | None
    next_fire_times: Annotated[list[datetime], Field(max_length=5)]
    queued: Annotated[list[datetime], Field(description="Fire times that wait for their runs to start")]
    recent_fires: Annotated[list[Fire], Field(max_length=10, description="Newest first")]


class ScheduleList(ResponseModel):
    """A page of schedules, by name."""

    data: list[ScheduleSummary]
    next_cursor: str | None
