"""Problems as OpenAPI documents them. They are written by `app.api.problems`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ProblemEntry(BaseModel):
    """One thing to mend: in the body (`pointer`) or in a parameter (`parameter`, `in`)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    pointer: Annotated[str, Field(description="JSON Pointer into the body")] | None = None
    line: Annotated[int, Field(ge=1)] | None = None
    column: Annotated[int, Field(ge=1)] | None = None
    parameter: str | None = None
    location: Annotated[Literal["path", "query", "header"] | None, Field(alias="in")] = None
    detail: str
    hint: str | None = None


class ProblemDocument(BaseModel):
    """A problem (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(description="A URN that names the kind of problem")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: Annotated[str, Field(description="What is wrong, and what to do")]
    instance: Annotated[str, Field(description="The path of the request")]
    code: Annotated[str, Field(description="The kind of problem, for programs")]
    errors: list[ProblemEntry]
    request_id: str | None
