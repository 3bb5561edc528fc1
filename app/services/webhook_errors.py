"""What the use cases of webhooks refuse; a branch of the tree in `app.services.errors`."""

from __future__ import annotations

from collections.abc import Sequence

from app.ports.problems import Problem
from app.services.errors import Conflict, NotFound, Unprocessable


class WebhookNotFound(NotFound):
    """No such webhook in the caller's tenant."""

    code = "webhook_not_found"
    title = "Webhook not found"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id!r}; list the webhooks to find its id")


class DeliveryNotFound(NotFound):
    """No such delivery of this webhook."""

    code = "delivery_not_found"
    title = "Delivery not found"

    def __init__(self, webhook_id: str, delivery_id: str) -> None:
        super().__init__(
            f"webhook {webhook_id!r} has no delivery {delivery_id!r}; list its deliveries to find one"
        )


class WebhookDisabled(Conflict):
    """The webhook is disabled, so nothing can be sent to it."""

    code = "webhook_disabled"
    title = "The webhook is disabled"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"webhook {webhook_id!r} is disabled; enable it first")


class WebhookOfRun(Conflict):
    """The webhook came with a run and cannot be changed."""

    code = "webhook_of_run"
    title = "The webhook belongs to a run"

    def __init__(self, webhook_id: str) -> None:
        super().__init__(
            f"webhook {webhook_id!r} came with a run and cannot be changed; register one instead"
        )


class WebhookBusy(Conflict):
    """The webhook was changed by others while the request tried to."""

    code = "webhook_busy"
    title = "The webhook keeps changing"


class TooManyWebhooks(Conflict):
    """The tenant has as many webhooks as it may."""

    code = "too_many_webhooks"
    title = "There are too many webhooks"


class WebhookRejected(Unprocessable):
    """A webhook cannot be kept as it is; what to mend is listed."""

    code = "webhook_invalid"
    title = "The webhook is not valid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        detail = f"the webhook cannot be kept for {len(problems)} reasons; each is listed under errors"
        if len(problems) == 1:
            detail = f"the webhook cannot be kept: {problems[0].detail}"
        super().__init__(detail, problems=problems)
