"""Runs on the wire. Requests are validated by these models; responses are written by `app.api.v1.rendering`
and only documented by them (a test proves that the two agree)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from app.api.v1 import examples
from app.api.v1.schemas.budgets import RunBudget
from app.api.v1.schemas.run_webhooks import Webhook
from app.ports.runs import RunStatus
from app.services.run_labels import MOST_LABELS

MAX_PRIORITY = 100
MAX_STEP_KEY = 1024
MAX_PATH = 2048
MAX_TIMEOUT_SECONDS = 30 * 24 * 3600

WORKFLOW_NAME = r"^[A-Za-z0-9]([A-Za-z0-9 ._-]{0,126}[A-Za-z0-9])?$"
WORKFLOW_VERSION = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$"
LABEL_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$"
RUN_ID = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

StepStatus = Literal[
    "pending", "running", "retrying", "waiting", "completed", "failed", "skipped", "cancelled"
]
WorkflowName = Annotated[str, Field(pattern=WORKFLOW_NAME)]
WorkflowVersion = Annotated[str, Field(pattern=WORKFLOW_VERSION)]
Labels = Annotated[
    dict[Annotated[str, Field(pattern=LABEL_NAME)], Annotated[str, Field(max_length=256)]],
    Field(max_length=MOST_LABELS, json_schema_extra={"additionalProperties": False}),
]


class RequestModel(BaseModel):
    """Base of requests: no coercion, no unknown members."""

    model_config = ConfigDict(extra="forbid", strict=True)


class RunOptions(RequestModel):
    """What may be said of every run."""

    inputs: Annotated[dict[str, Any], Field(description="Fit the workflow's `inputs` schema")] = {}
    labels: Annotated[Labels, Field(description="For finding the run again")] = {}
    priority: Annotated[
        int,
        Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Waiting runs with a higher one start first"),
    ] = 0
    timeout_seconds: Annotated[
        float | None, Field(gt=0, le=MAX_TIMEOUT_SECONDS, description="Bounds the run from its start")
    ] = None
    budget: Annotated[RunBudget | None, Field(description="Bounds what it may use")] = None


class SubmissionOptions(RunOptions):
    """What the submission of one run may say."""

    webhook: Webhook = None


class SubmitRun(SubmissionOptions):
    """A run of an inline definition or of a registered workflow."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SUBMIT_NAMED, examples.SUBMIT_INLINE]})

    workflow: Annotated[
        WorkflowName | dict[str, Any],
        Field(description="A workflow definition, or the name of a registered workflow"),
    ]
    version: Annotated[
        WorkflowVersion | None, Field(description="Of a registered workflow; the newest if absent")
    ] = None

    @model_validator(mode="after")
    def _version_of_a_name(self) -> Self:
        if self.version is not None and not isinstance(self.workflow, str):
            raise ValueError("version chooses among registered ones; an inline definition states its own")
        return self


class RunWorkflow(SubmissionOptions):
    """A run of the workflow in the path."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RUN_WORKFLOW]})

    version: Annotated[WorkflowVersion | None, Field(description="The newest if absent")] = None


def _words(given: str | None) -> str | None:
    """What somebody wrote, if there is a word in it."""
    return given.strip() or None if given else None


Reason = Annotated[str | None, Field(max_length=1000), AfterValidator(_words)]


class CancelRun(RequestModel):
    """Why a run is cancelled."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CANCEL]})

    reason: Reason = None


class PauseRun(RequestModel):
    """Why a run is paused."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.PAUSE]})

    reason: Reason = None


class RetryRun(RequestModel):
    """A retry has no options: what is to be different makes it a rerun."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}]})


class RerunRun(RequestModel):
    """What is to be different this time; what is absent stays as it was."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.RERUN]})

    start: Annotated[
        str | None,
        Field(
            alias="from",
            min_length=1,
            max_length=MAX_STEP_KEY,
            description="A step that runs again with all that comes after it: its id, within others "
            "`<owner>.<id>`",
        ),
    ] = None
    inputs: Annotated[
        dict[str, Any] | None, Field(description="All of them; fit the workflow's `inputs` schema")
    ] = None
    version: Annotated[WorkflowVersion | None, Field(description="Of the registered workflow")] = None
    labels: Labels | None = None
    priority: Annotated[int | None, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] = None


class ResponseModel(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(extra="forbid")


class RunLinks(ResponseModel):
    """Where the run goes on."""

    self: str
    events: str
    cancel: str


class RunAccepted(ResponseModel):
    """The run is durable and will be executed."""

    id: Annotated[str, Field(pattern=RUN_ID)]
    status: RunStatus
    links: RunLinks


class RunError(ResponseModel):
    """Why something failed. `path` names the step."""

    error_class: str
    message: str
    retryable: Annotated[bool, Field(description="Whether trying again may help")]
    path: str | None


class TokenUsage(ResponseModel):
    """Tokens of all completed steps; null where no vendor counted them."""

    input_tokens: int | None
    output_tokens: int | None


class CallUsage(ResponseModel):
    """One call of an attempt that made several."""

    provider: str
    asked_model: str
    model: Annotated[str | None, Field(description="That answered")]
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    error_class: Annotated[
        str | None, Field(description="Set if there was no answer: it may be billed, and counts in no sum")
    ] = None


class StepUsage(ResponseModel):
    """Who was called and what was billed."""

    provider: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: Annotated[
        float | None, Field(description="By the prices of that time; null where none was known")
    ] = None
    calls: Annotated[
        list[CallUsage] | None, Field(description="Set if fallbacks or repairs took several calls")
    ] = None


class StepSource(ResponseModel):
    """Where outputs come from that no call was made for."""

    run_id: Annotated[str | None, Field(description="The run that made the call; null for the cache")]
    cache: bool
    saved: Annotated[StepUsage | None, Field(description="What the call was billed that was not repeated")]


class Reused(TokenUsage):
    """Steps whose outputs come from another run or the cache, and the tokens that this saved."""

    steps: int


class Attempt(ResponseModel):
    """One try at a step."""

    attempt: int
    started_at: datetime
    finished_at: datetime | None
    outcome: Literal["succeeded", "failed", "timed_out", "lost", "cancelled", "deferred"] | None
    error: RunError | None


class Step(ResponseModel):
    """One step of a run. `outputs` and `attempts` are present with `?include=`."""

    path: str
    type: str
    name: str | None
    status: StepStatus
    attempt: Annotated[int, Field(ge=0, description="Number of the latest attempt")]
    started_at: datetime | None
    finished_at: datetime | None
    retry_at: datetime | None
    skip_reason: Literal["condition", "upstream_skipped", "upstream_failed", "run_on"] | None
    recovered: Annotated[bool, Field(description="It failed, and its `on_error` value stands in")]
    error: RunError | None
    usage: StepUsage | None
    source: Annotated[StepSource | None, Field(description="Set if no call was made")]
    outputs: dict[str, Any] | None = None
    attempts: list[Attempt] | None = None


class RunSummary(ResponseModel):
    """A run in a list."""

    id: Annotated[str, Field(pattern=RUN_ID)]
    workflow: str
    version: str
    status: RunStatus
    priority: int
    labels: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    parent_run_id: str | None
    links: RunLinks


class Run(RunSummary):
    """A run with its steps."""

    inputs: dict[str, Any]
    outputs: Annotated[Any, Field(description="What the run brought; null until it has completed")]
    error: RunError | None
    cancel_reason: str | None
    pause_reason: str | None
    wake_at: Annotated[datetime | None, Field(description="When a waiting run goes on by itself")]
    usage: TokenUsage
    reused: Reused
    steps: list[Step]
    steps_omitted: Annotated[
        int, Field(description="Steps within others that are too many to be listed; ask with `under`")
    ]


class RunList(ResponseModel):
    """A page of runs, newest first."""

    data: list[RunSummary]
    next_cursor: str | None


class CancelReceipt(ResponseModel):
    """What the cancellation met. Paths name steps."""

    id: Annotated[str, Field(pattern=RUN_ID)]
    status: RunStatus
    calls_aborted: Annotated[list[str], Field(description="In flight, and being aborted")]
    unknown_effects: Annotated[
        list[str], Field(description="Of those, whether they took effect is not known")
    ]
    usage: TokenUsage
    links: RunLinks
