"""The words of a workflow document, as its author may write them.

These models know one key at a time: types, ranges and spelling. What keys mean together (references,
cycles, kinds) is the compiler's. The kinds' own keys of a step are not here but in `app.steps`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.core.plan import RunOn
from app.dsl.retry import RetryValue
from app.steps.control import Condition, Steps

STEP_ID: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")
OUTPUT_NAME: Final = re.compile(r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
WORKFLOW_NAME: Final = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,126}[A-Za-z0-9])?$")
VERSION: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")


MAX_TIMEOUT_SECONDS: Final = 30 * 24 * 3600
"""Thirty days: no attempt and no run of this version is meant to last longer."""
MAX_CACHE_SECONDS: Final = 30 * 24 * 3600


def _as_list(value: Any) -> Any:
    """One name may stand without brackets; an empty key means none."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


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

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class OnErrorDocument(DocumentModel):
    """`continue`: the step counts as completed, with `value` as its first output."""

    action: Literal["fail", "continue"]
    """`continue`: the failed step counts as completed."""
    value: Any = None
    """Its first output then, null for the others; a template, or anything with templates in it."""


OnError = Annotated[
    OnErrorDocument,
    BeforeValidator(_as_action, json_schema_input_type=OnErrorDocument | Literal["fail", "continue"]),
]


class CacheDocument(DocumentModel):
    """How long the outputs of a step stand in for another try at the same."""

    ttl_seconds: Annotated[float, Field(strict=True, gt=0, le=MAX_CACHE_SECONDS)]
    """How long an answer may be used again, at most 30 days."""
    key: Annotated[StrictStr, Field(min_length=1, max_length=1_000)] | None = None
    """A template; what gives the same is the same. If absent: everything that the step is asked."""


class StepDocument(DocumentModel):
    """The keys of every step; the kind's own keys stand beside them."""

    id: Annotated[StrictStr, Field(pattern=STEP_ID.pattern)]
    """The name of the step in its block: a letter or `_`, then letters, digits, `_`, `-`; at most 64."""
    type: StrictStr
    """The kind of step."""
    name: Annotated[StrictStr, Field(max_length=256)] | None = None
    """A title for people."""
    depends_on: Names = Field(default_factory=list)
    """Steps of the same block that must have ended first. Those that a template or condition reads are added
    by themselves."""
    condition: Condition | None = None
    """A gate: an expression that is evaluated once the dependencies have ended; false skips the step."""
    output: OutputNames = Field(default_factory=list)
    """Names for the outputs of the kind, by position, beside the kind's own."""
    timeout_seconds: Seconds | None = None
    """Bounds one attempt, or all of a control step. An attempt has 300 if nobody says so."""
    retry: RetryValue | None = None
    """How a failed attempt is tried again: an object, a total number of tries, or `never`."""
    run_on: RunOn = "success"
    """How its dependencies must have ended for the step to run."""
    on_error: OnError | None = None
    """What becomes of a failure: `fail` (if absent), `continue`, or `{action: continue, value: …}`."""
    on_unknown: Literal["fail", "retry"] | None = None
    """What to do if the process died while the step was in flight. If absent, a step is run again unless
    that may do harm."""
    cache: CacheDocument | None = None
    """Have the outputs of an earlier call stand in for one that asks the same."""


class DefaultsDocument(DocumentModel):
    """What holds for every step that does not say otherwise."""

    retry: RetryValue | None = None
    """For those that may be repeated."""
    timeout_seconds: Seconds | None = None
    """Bounds one attempt of each."""


class ConcurrencyDocument(DocumentModel):
    """How many runs with one key may be under way together."""

    key: Annotated[StrictStr, Field(min_length=1, max_length=1_000)] | None = None
    """A template over the inputs. If absent: all runs of the workflow share one."""
    limit: Annotated[StrictInt, Field(ge=1, le=100_000)]
    """How many runs may be under way."""
    on_limit: Literal["queue", "reject", "cancel_oldest"] = "queue"
    """What becomes of a run too many: it waits, its submission is refused, or the oldest makes room for
    it."""


class BudgetDocument(DocumentModel):
    """What a run may use."""

    max_cost_usd: Annotated[float, Field(strict=True, gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """US dollars."""
    max_tokens: Annotated[StrictInt, Field(ge=1, le=10**12)] | None = None
    """Input and output tokens together."""
    on_exceeded: Literal["fail", "pause"] = "fail"
    """What becomes of a run that would use more."""

    @model_validator(mode="after")
    def _some_bound(self) -> BudgetDocument:
        if self.max_cost_usd is None and self.max_tokens is None:
            raise PydanticCustomError("no_bound", "Give 'max_cost_usd', 'max_tokens' or both")
        return self


class WorkflowDocument(DocumentModel):
    """The keys of a workflow. Steps are checked one by one, with their kinds."""

    name: Annotated[StrictStr, Field(pattern=WORKFLOW_NAME.pattern)]
    """Letters, digits, space and `._-`, at most 128; begins and ends with a letter or digit."""
    version: Annotated[StrictStr, Field(pattern=VERSION.pattern), Version] | None = None
    """Text or a number, kept as it is written (`1.10` stays `1.10`); `1` if absent. A registered version
    never changes."""
    description: Annotated[StrictStr, Field(max_length=10_000)] | None = None
    """What it is for."""
    labels: Annotated[dict[str, Label], Field(max_length=64)] | None = None
    """Texts by name, for people."""
    metadata: dict[str, Any] | None = None
    """Anything, for people and tools."""
    inputs: dict[str, Any] | None = None
    """JSON Schema (2020-12) of an object: what a run is given. Defaults of top-level properties are filled
    in. A misspelt one is refused only where it says `additionalProperties: false`."""
    defaults: DefaultsDocument | None = None
    """What holds for every step that does not say otherwise."""
    timeout_seconds: Seconds | None = None
    """Bounds the run from its start; `on_failure` and `finally` come after it."""
    max_concurrency: Annotated[StrictInt, Field(ge=1, le=10_000)] | None = None
    """Attempts of one run in flight together, at most what the service allows (64 if nobody changed that)."""
    concurrency: ConcurrencyDocument | None = None
    """How many runs of this workflow may be under way together."""
    budget: BudgetDocument | None = None
    """What a run may use."""
    steps: Steps
    """At least one; at most 5,000 with all that are within others, 16 blocks deep."""
    on_failure: Steps | None = None
    """Steps that run after the others where the run failed or took too long."""
    finally_: Steps | None = Field(default=None, alias="finally")
    """Steps that run last, however the run ended."""
    outputs: dict[str, Any] | None = None
    """What the run brings, as templates. If absent: the first output of every step that no other waits for,
    by step id."""


STEP_KEYS: Final = frozenset(StepDocument.model_fields)
"""Keys that belong to the step itself; all others are its kind's."""
ATTEMPT_KEYS: Final = frozenset({"retry", "on_unknown", "cache"})
"""Those among them that speak of attempts, which control steps do not have."""
