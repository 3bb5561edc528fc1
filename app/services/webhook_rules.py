"""What may be registered: addresses that the egress policy allows, secrets that can be signed with.

An address is checked here so that its author hears of it; what counts is the check at every connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import uuid_utils

from app.ports.errors import PermanentError
from app.ports.problems import Problem
from app.ports.runs import RunRow
from app.ports.webhooks import Endpoint, WebhookEvent
from app.security.egress import EgressPolicy
from app.services.webhook_errors import WebhookRejected
from app.services.webhook_signing import SECRET_RULE, is_secret, new_secret

TERMINAL_EVENTS: Final[tuple[WebhookEvent, ...]] = (
    "run.completed",
    "run.failed",
    "run.cancelled",
    "run.timed_out",
)
"""What is told of unless something else is asked for."""
PORTS: Final[Mapping[str, int]] = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """What a user sets of a webhook for all runs of the tenant."""

    url: str
    events: tuple[str, ...] = TERMINAL_EVENTS
    workflow: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None
    enabled: bool = True
    include_outputs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWebhook:
    """What a submission says of who is to be told of this one run."""

    url: str
    events: tuple[str, ...] = TERMINAL_EVENTS
    secret: str | None = field(default=None, repr=False)
    """None: the secret of the service."""
    include_outputs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRules:
    """The operator's bounds. `default_secret` signs webhooks of runs that bring none."""

    policy: EgressPolicy = field(default_factory=EgressPolicy)
    default_secret: str | None = field(default=None, repr=False)

    def registered(self, tenant: str, request: WebhookRequest, now: float) -> Endpoint:
        """A new endpoint with a new secret. Raises `WebhookRejected`."""
        self.check_url(request.url)
        return Endpoint(
            id=str(uuid_utils.uuid7()),
            tenant=tenant,
            url=request.url,
            target=target_of(tenant, request.url),
            events=request.events,
            workflow=request.workflow,
            labels=request.labels,
            description=request.description,
            enabled=request.enabled,
            include_outputs=request.include_outputs,
            secret=new_secret(),
            created_at=now,
            updated_at=now,
        )

    def of_run(self, run: RunRow, webhook: RunWebhook) -> Endpoint:
        """The endpoint that is bound to a run. Raises `WebhookRejected`; pointers begin at the submission."""
        problems = self._url_problems(webhook.url, "/webhook/url")
        if webhook.secret is not None and not is_secret(webhook.secret):
            detail = "'secret' cannot be signed with"
            problems.append(Problem(pointer="/webhook/secret", detail=detail, hint=SECRET_RULE))
        if webhook.secret is None and self.default_secret is None:
            detail = "there is nothing to sign with: the webhook brings no secret and the service has none"
            hint = "add 'secret', or have the operator set webhooks.secret (ORCHESTRATOR_WEBHOOKS__SECRET)"
            problems.append(Problem(pointer="/webhook", detail=detail, hint=hint))
        if problems:
            raise WebhookRejected(problems)
        return Endpoint(
            id=str(uuid_utils.uuid7()),
            tenant=run.tenant,
            run_id=run.id,
            url=webhook.url,
            target=target_of(run.tenant, webhook.url),
            events=webhook.events,
            include_outputs=webhook.include_outputs,
            secret=webhook.secret,
            created_at=run.created_at,
            updated_at=run.created_at,
        )

    def check_url(self, url: str) -> None:
        """Raise `WebhookRejected` unless it may be connected to, as far as that shows without a look-up."""
        problems = self._url_problems(url, "/url")
        if problems:
            raise WebhookRejected(problems)

    def _url_problems(self, url: str, pointer: str) -> list[Problem]:
        try:
            self.policy.check_url(url)
        except PermanentError as error:
            hint = "give an address that the service may connect to"
            return [Problem(pointer=pointer, detail=str(error), hint=hint)]
        return []


def target_of(tenant: str, url: str) -> str:
    """Tenant and origin: what shares its fate."""
    parts = urlsplit(url)
    port = parts.port or PORTS.get(parts.scheme, 0)
    return f"{tenant} {parts.scheme}://{parts.hostname or ''}:{port}"
