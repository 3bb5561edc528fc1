"""Who is to be told of one run, as a submission says it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.ports.webhooks import WebhookEvent
from app.services.webhook_rules import TERMINAL_EVENTS
from app.services.webhook_signing import FORM

WEBHOOK_URL = r"^https?://[!-~]+$"

WebhookUrl = Annotated[
    str, Field(pattern=WEBHOOK_URL, max_length=2048, description="Where to POST; http or https")
]
WebhookEvents = Annotated[
    list[WebhookEvent],
    Field(min_length=1, max_length=16, description="What to tell of; by default how the run ended"),
]


class SubmittedWebhook(BaseModel):
    """Somebody to be told of this run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: WebhookUrl
    events: WebhookEvents = Field(default_factory=lambda: list(TERMINAL_EVENTS))
    secret: Annotated[
        str | None,
        Field(
            pattern=FORM,
            description="`whsec_` and base64; signs, and is never shown. The service's own if absent",
            json_schema_extra={"writeOnly": True},
            repr=False,
        ),
    ] = None
    include_outputs: Annotated[bool, Field(description="Send the outputs along, unless they are large")] = (
        False
    )


Webhook = Annotated[
    WebhookUrl | SubmittedWebhook | None,
    Field(description="An address that is told how the run ends, or an object with it and more"),
]
