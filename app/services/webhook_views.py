"""Webhooks as readers see them: never with a secret, but in the one answer that gives it out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from app.ports.webhooks import Delivery, Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookView:
    """A webhook. `secret` is set in the first answer to its creation and to a rotation only."""

    endpoint: Endpoint
    rotating_until: float | None = None
    """Until when the secret before signs as well."""
    secret: str | None = field(default=None, repr=False)
    secret_shown: bool = False
    """The answer that had the secret was given before; a repetition of it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPage:
    """A page of webhooks, oldest first."""

    items: list[WebhookView]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPage:
    """A page of deliveries, newest first."""

    items: list[Delivery]
    next_cursor: str | None


def webhook_view(
    endpoint: Endpoint, *, now: float, reveal: Literal["never", "now", "before"] = "never"
) -> WebhookView:
    """A stored endpoint as it is now. `reveal`: when an answer has the secret, or had it."""
    until = endpoint.old_secret_until
    return WebhookView(
        endpoint=endpoint,
        rotating_until=until if until is not None and until > now else None,
        secret=endpoint.secret if reveal == "now" else None,
        secret_shown=reveal == "before",
    )
