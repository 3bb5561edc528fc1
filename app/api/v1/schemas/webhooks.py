"""Webhooks on the wire. Requests are validated by these models, responses only documented by them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import ConfigDict, Field

from app.api.v1 import webhook_examples as examples
from app.api.v1.parameters import DELIVERY_ID
from app.api.v1.schemas.problems import ProblemEntry
from app.api.v1.schemas.run_webhooks import WebhookEvents, WebhookUrl
from app.api.v1.schemas.runs import RUN_ID, Labels, RequestModel, ResponseModel, WorkflowName
from app.ports.webhooks import DeliveryStatus
from app.services.webhook_rules import TERMINAL_EVENTS

MAX_DESCRIPTION = 1000
MAX_KEEP_SECONDS = 30 * 24 * 3600
DAY_SECONDS = 24 * 3600

Workflow = Annotated[WorkflowName | None, Field(description="Only runs of this workflow")]
Description = Annotated[str | None, Field(max_length=MAX_DESCRIPTION)]
OnlyLabels = Annotated[Labels, Field(max_length=16, description="Only runs that have all of these")]
Enabled = Annotated[bool, Field(description="A disabled one is owed nothing new, and what it is owed waits")]
IncludeOutputs = Annotated[bool, Field(description="Send the outputs along, unless they are large")]


class WebhookSettings(RequestModel):
    """Who is to be told, and of what."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.SETTINGS]})

    url: WebhookUrl
    events: WebhookEvents = Field(default_factory=lambda: list(TERMINAL_EVENTS))
    workflow: Workflow = None
    labels: OnlyLabels = Field(default_factory=dict)
    description: Description = None
    enabled: Enabled = True
    include_outputs: IncludeOutputs = False


class WebhookChanges(RequestModel):
    """What is to be set anew. What is absent stays: the values that stand in for it are not looked at."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.CHANGES]})

    url: WebhookUrl = Field(default_factory=str)
    events: WebhookEvents = Field(default_factory=list)
    workflow: Workflow = None
    labels: OnlyLabels = Field(default_factory=dict)
    description: Description = None
    enabled: Enabled = Field(default_factory=bool)
    include_outputs: IncludeOutputs = Field(default_factory=bool)


class Rotation(RequestModel):
    """How the old secret is phased out."""

    model_config = ConfigDict(json_schema_extra={"examples": [examples.ROTATION]})

    keep_old_seconds: Annotated[
        int, Field(ge=0, le=MAX_KEEP_SECONDS, description="How long the old secret signs as well")
    ] = DAY_SECONDS


class WebhookLinks(ResponseModel):
    """Where the webhook goes on."""

    self: str
    deliveries: str


class Webhook(ResponseModel):
    """A webhook."""

    id: Annotated[str, Field(pattern=RUN_ID)]
    url: str
    events: list[str]
    workflow: str | None
    labels: dict[str, str]
    description: str | None
    enabled: bool
    disabled_reason: Annotated[str | None, Field(description="Why the service disabled it")]
    include_outputs: bool
    run_id: Annotated[str | None, Field(description="The run it came with", pattern=RUN_ID)]
    rotating_until: Annotated[datetime | None, Field(description="Until when the old secret signs as well")]
    created_at: datetime
    updated_at: datetime
    links: WebhookLinks


class WebhookWithSecret(Webhook):
    """A webhook with the secret that its receiver verifies signatures by. It is shown this once."""

    secret: Annotated[str | None, Field(description="`null` when the answer is given again")]
    secret_shown_before: Annotated[
        bool, Field(description="The first answer had the secret; get a new one if that was lost")
    ]


class WebhookCreated(WebhookWithSecret):
    """A new webhook with its secret, and what may be wrong with it."""

    warnings: Annotated[
        list[ProblemEntry], Field(description="A workflow that is not registered, and may be misspelt")
    ]


class WebhookList(ResponseModel):
    """A page of webhooks, oldest first."""

    data: list[Webhook]
    next_cursor: str | None


class DeliveryAttempt(ResponseModel):
    """One attempt to deliver."""

    at: datetime
    latency_ms: float
    status_code: Annotated[int | None, Field(description="None where there was no answer")]
    error: Annotated[str | None, Field(description="None if it was taken")]


class DeliveryLinks(ResponseModel):
    """What the delivery belongs to, and how it is sent again."""

    webhook: str
    run: str | None
    redeliver: str


class Delivery(ResponseModel):
    """One event for one webhook."""

    id: Annotated[str, Field(pattern=DELIVERY_ID, description="The header `webhook-id`")]
    webhook_id: Annotated[str, Field(pattern=RUN_ID)]
    run_id: Annotated[str | None, Field(pattern=RUN_ID)]
    event: str
    status: DeliveryStatus
    tries: Annotated[int, Field(ge=0, description="Since it was created, or asked for again")]
    attempts: Annotated[list[DeliveryAttempt], Field(max_length=20, description="The latest, oldest first")]
    next_attempt_at: Annotated[
        datetime | None, Field(description="None when it has ended, and while its webhook is disabled")
    ]
    created_at: datetime
    finished_at: datetime | None
    links: DeliveryLinks


class DeliveryList(ResponseModel):
    """A page of deliveries, newest first."""

    data: list[Delivery]
    next_cursor: str | None
