"""Path, query and header parameters that several operations share."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import Header, Path, Query
from pydantic import BeforeValidator

from app.api.v1.schemas.runs import RUN_ID, WORKFLOW_NAME, WORKFLOW_VERSION

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def _as_time(value: Any) -> Any:
    """Only what RFC 3339 knows: pydantic would take dates and counts of seconds as well."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise ValueError("write it as 2026-01-31T12:00:00Z (in a URL, a + is %2B)")
    return value


RunId = Annotated[
    str,
    Path(pattern=RUN_ID, description="Id of the run", examples=["0197d6a0-7c1e-7000-8000-000000000000"]),
]
WorkflowPath = Annotated[
    str, Path(pattern=WORKFLOW_NAME, description="Name of the workflow", examples=["rag-qa"])
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
        pattern=r"^[A-Za-z0-9_-]+$",
        description="`next_cursor` of the page before; repeat its filters",
    ),
]
Time = Annotated[datetime, BeforeValidator(_as_time)]
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


def split(values: list[str] | None) -> frozenset[str]:
    """Members of repeated and comma-separated parameters."""
    return frozenset(word for value in values or () for word in value.split(","))
