"""A run as a recording: what came to it from outside, and what it made of that.

`steps` are in the order in which they ended, so that a replay can answer in that order. Answers of models,
vendors, people and other runs are kept; what transforms and blocks brought follows from them. The format
is a file's: it is read with the models here and written as canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

FORMAT: Final = 1

StepEnd = Literal["completed", "failed", "cancelled"]


class RecordingModel(BaseModel):
    """Base: unknown members are refused, nothing changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RecordedError(RecordingModel):
    """Why something failed."""

    error_class: str
    message: str


class RecordedStep(RecordingModel):
    """One step instance that ended."""

    type: str
    status: StepEnd
    hash: Annotated[str | None, Field(description="Of what the step was about to do")] = None
    config: Annotated[Any, Field(description="The rendered keys of the step: prompts, queries, bodies")] = (
        None
    )
    outputs: Annotated[
        dict[str, Any] | None, Field(description="What was answered, by the kind's own output names")
    ] = None
    billing: Annotated[dict[str, Any] | None, Field(description="Who was called and what was used")] = None
    error: Annotated[RecordedError | None, Field(description="What the step met; it may have gone on")] = None
    within: Annotated[
        str | None, Field(description="Of an item of a distributed map that failed: the path of its step")
    ] = None
    expired: Annotated[bool, Field(description="Of an approval: nobody answered in time")] = False


class RecordedRun(RecordingModel):
    """Which run it was and how it ended."""

    id: str
    workflow: str
    version: str
    status: Literal["completed", "failed"]
    outputs: Any = None
    error: RecordedError | None = None
    finished_at: Annotated[str | None, Field(description="RFC 3339")] = None


class Recording(RecordingModel):
    """A run for replaying it without calling anybody."""

    recording: Annotated[Literal[1], Field(description="Version of this format")] = FORMAT
    run: RecordedRun
    definition: dict[str, Any]
    inputs: dict[str, Any]
    steps: Annotated[dict[str, RecordedStep], Field(description="By path, in the order of their ends")]


def write_recording(recording: Recording) -> bytes:
    """The text of a recording; what is absent is left out, except in what a step was asked and answered."""
    body = {
        "recording": recording.recording,
        "run": _present(recording.run),
        "definition": recording.definition,
        "inputs": recording.inputs,
        "steps": {path: _present(step) for path, step in recording.steps.items()},
    }
    return orjson.dumps(body, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _present(model: RecordedRun | RecordedStep) -> dict[str, Any]:
    members = model.model_dump(mode="json")
    return {name: value for name, value in members.items() if value is not None and value is not False}
