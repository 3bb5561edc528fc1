"""Recordings on the wire. What a recording holds is `app.engines.recording`'s: the same is in files."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from app.api.v1 import bulk_examples as examples
from app.api.v1.schemas.runs import RequestModel

JSON_POINTER = r"^(/([^~/]|~[01])*)+$"


class ExportFixture(RequestModel):
    """What is to be taken out beside secrets."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.EXPORT_FIXTURE]})

    redact: Annotated[
        list[Annotated[str, Field(max_length=1000, pattern=JSON_POINTER)]],
        Field(
            max_length=100,
            description="JSON Pointers to inputs and answers (`*` for every member); what was made of them "
            "goes with them",
        ),
    ] = []  # noqa: RUF012  pydantic copies defaults
