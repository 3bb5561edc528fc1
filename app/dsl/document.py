"""The words of a workflow document, as its author may write them.

These models know one key at a time: types, ranges and spelling. What keys mean together (references,
cycles, kinds) is the compiler's. The kinds' own keys of a step are not here but in `app.steps`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr, WithJsonSchema

from app.core.plan import RunOn
from app.dsl.retry import RetryValue

STEP_ID: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
OUTPUT_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
WORKFLOW_NAME: Final = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,126}[A-Za-z0-9])?$")
VERSION: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")

LATER_WORKFLOW_KEYS: Final = frozenset({"concurrency", "budget", "on_failure", "finally"})
LATER_STEP_KEYS: Final = frozenset({"cache"})
LATER_KINDS: Final = frozenset({"branch", "parallel", "map", "loop", "workflow", "wait", "approval"})
"""Words of the language that this version cannot carry out yet."""

MAX_TIMEOUT_SECONDS: Final = 30 * 24 * 3600
"""Thirty days: no attempt and no run of this version is meant to last longer."""


def _as_list(value: Any) -> Any:
    """One name may stand without brackets; an empty key means none."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _as_expression(value: Any) -> Any:
    """YAML reads a bare `true` as a truth value; as a condition it is one, too."""
    return str(value).lower() if isinstance(value, bool) else value


def _as_action(value: Any) -> Any:
    """`fail` and `continue` may stand for themselves."""
    return {"action": value} if isinstance(value, str) else value


Seconds = Annotated[float, Field(strict=True, gt=0, le=MAX_TIMEOUT_SECONDS)]
Names = Annotated[list[StrictStr], BeforeValidator(_as_list, json_schema_input_type=list[str] | str | None)]
OutputName = Annotated[StrictStr, Field(pattern=OUTPUT_NAME.pattern)]
OutputNames = Annotated[
    list[OutputName],
    BeforeValidator(_as_list, json_schema_input_type=list[OutputName] | OutputName | None),
]
Version = WithJsonSchema({"type": ["string", "number"], "pattern": VERSION.pattern})
"""The compiler makes text of a version written as a number (`1.0`)."""
Label = Annotated[StrictStr, Field(max_length=256)]


class DocumentModel(BaseModel):
    """Base: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OnErrorDocument(DocumentModel):
    """`continue`: the step counts as completed, with `value` as its first output."""

    action: Literal["fail", "continue"]
    value: Any = None


OnError = Annotated[
    OnErrorDocument,
    BeforeValidator(_as_action, json_schema_input_type=OnErrorDocument | Literal["fail", "continue"]),
]


class StepDocument(DocumentModel):
    """The keys of every step; the kind's own keys stand beside them."""

    id: Annotated[StrictStr, Field(pattern=STEP_ID.pattern)]
    type: StrictStr
    name: Annotated[StrictStr, Field(max_length=256)] | None = None
    depends_on: Names = Field(default_factory=list)
    condition: (
        Annotated[StrictStr, BeforeValidator(_as_expression, json_schema_input_type=str | bool)] | None
    ) = None
    output: OutputNames = Field(default_factory=list)
    timeout_seconds: Seconds | None = None
    retry: RetryValue | None = None
    run_on: RunOn = "success"
    on_error: OnError | None = None
    on_unknown: Literal["fail", "retry"] | None = None


class DefaultsDocument(DocumentModel):
    """What holds for every step that does not say otherwise."""

    retry: RetryValue | None = None
    timeout_seconds: Seconds | None = None


class WorkflowDocument(DocumentModel):
    """The keys of a workflow. Steps are checked one by one, with their kinds."""

    name: Annotated[StrictStr, Field(pattern=WORKFLOW_NAME.pattern)]
    version: Annotated[StrictStr, Field(pattern=VERSION.pattern), Version] | None = None
    description: Annotated[StrictStr, Field(max_length=10_000)] | None = None
    labels: Annotated[dict[str, Label], Field(max_length=64)] | None = None
    metadata: dict[str, Any] | None = None
    inputs: dict[str, Any] | None = None
    defaults: DefaultsDocument | None = None
    timeout_seconds: Seconds | None = None
    max_concurrency: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    steps: Annotated[list[Any], Field(min_length=1)]
    outputs: dict[str, Any] | None = None


STEP_KEYS: Final = frozenset(StepDocument.model_fields)
"""Keys that belong to the step itself; all others are its kind's."""
