"""Path, query and header parameters that several operations share."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Header, Path, Query
from pydantic import BeforeValidator, Field

from app.api.v1.schemas.runs import LABEL_NAME, RUN_ID, WORKFLOW_NAME, WORKFLOW_VERSION

DELIVERY_ID: Final = RUN_ID.replace("^", "^msg_").replace("$", "(_[0-9]{1,10})?$")
CURSOR: Final = r"^[A-Za-z0-9_-]+$"
LABEL_FILTER: Final = LABEL_NAME[:-1] + r":[^\x00-\x1f]{0,256}$"
LAST_SEQ: Final = r"^[0-9]{1,15}$"

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _as_time(value: Any) -> Any:
    """Only what RFC 3339 knows: pydantic would take dates and counts of seconds as well."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("write it as 2026-01-31T12:00:00Z (in a URL, a + is %2B)")
    return value


def _as_text(value: Any) -> Any:
    """A body could hold a count of seconds, which pydantic would take for a time."""
    if not isinstance(value, str | datetime):
        raise ValueError("write it as 2026-01-31T12:00:00Z")  # noqa: TRY004  what pydantic catches
    return value


RunId = Annotated[
    str,
    Path(pattern=RUN_ID, description="Id of the run", examples=["0197d6a0-7c1e-7000-8000-000000000000"]),
]
WorkflowPath = Annotated[
    str, Path(pattern=WORKFLOW_NAME, description="Name of the workflow", examples=["rag-qa"])
]
ScheduleId = Annotated[
    str,
    Path(pattern=RUN_ID, description="Id of the schedule", examples=["0197d6a0-7c1e-7000-8000-000000000001"]),
]
WebhookId = Annotated[
    str,
    Path(pattern=RUN_ID, description="Id of the webhook", examples=["0197d6a0-7c1e-7000-8000-000000000002"]),
]
DeliveryId = Annotated[
    str,
    Path(
        pattern=DELIVERY_ID,
        description="Id of the delivery: its `webhook-id`",
        examples=["msg_0197d6a0-7c1e-7000-8000-000000000000_5"],
    ),
]
VersionPath = Annotated[
    str, Path(pattern=WORKFLOW_VERSION, description="Version of the workflow", examples=["1.0"])
]
Limit = Annotated[int, Query(ge=1, le=100, description="Items on a page")]
Cursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=512,
        pattern=CURSOR,
        description="`next_cursor` of the page before; repeat its filters",
    ),
]
Time = Annotated[datetime, BeforeValidator(_as_time)]
BodyTime = Annotated[Time, Field(strict=False), BeforeValidator(_as_text)]
"""A time in a JSON body."""
IfNoneMatch = Annotated[
    str | None,
    Header(
        alias="If-None-Match", max_length=1000, description="ETag of what the caller has: 304 if unchanged"
    ),
]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", max_length=1000, description="ETag the resource must still have"),
]


def one_of(values: tuple[str, ...]) -> str:
    """The pattern of a comma-separated list of these words."""
    word = "(" + "|".join(re.escape(value).replace(r"\_", "_") for value in values) + ")"
    return f"^{word}(,{word})*$"


def choices_of(pattern: str) -> tuple[str, ...]:
    """The words that a pattern made by `one_of` allows; none for another pattern."""
    first = pattern.removeprefix("^(").partition(")")[0]
    words = tuple(word.replace("\\", "") for word in first.split("|"))
    return words if pattern == one_of(words) else ()


def split(values: list[str] | None) -> frozenset[str]:
    """Members of repeated and comma-separated parameters."""
    return frozenset(word for value in values or () for word in value.split(","))
