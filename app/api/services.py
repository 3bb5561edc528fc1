"""What the routes are given: the services of the process, and how to reach them from a request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from app.services.approvals import ApprovalService
from app.services.batches import BatchService
from app.services.bulk import BulkService
from app.services.fixtures import FixtureService
from app.services.pauses import PauseService
from app.services.plans import PlanService
from app.services.providers import ProviderService
from app.services.reruns import RerunService
from app.services.run_reading import RunReadingService
from app.services.runs import RunService
from app.services.schedules import ScheduleService
from app.services.usage import UsageService
from app.services.webhook_log import DeliveryLog
from app.services.webhooks import WebhookService
from app.services.workflows import WorkflowService


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadinessCheck:
    """One thing that must hold for the process to get traffic.

    `check` returns a detail worth showing (or None), and raises `NotReady` if it does not hold.
    """

    name: str
    check: Callable[[], Awaitable[str | None]]


class NotReady(Exception):
    """A readiness check does not hold; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What the probes look at."""

    loop_lag_seconds: Callable[[], float]
    """Age of the event loop's last tick beyond its period."""
    checks: Sequence[ReadinessCheck] = ()
    exposition: Callable[[], tuple[bytes, str]]
    """The metrics and their content type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Everything behind the routes. `closing` is set when the process begins to shut down."""

    runs: RunService
    reading: RunReadingService
    batches: BatchService
    bulk: BulkService
    fixtures: FixtureService
    pauses: PauseService
    reruns: RerunService
    usage: UsageService
    plans: PlanService
    workflows: WorkflowService
    approvals: ApprovalService
    schedules: ScheduleService
    webhooks: WebhookService
    deliveries: DeliveryLog
    providers: ProviderService
    probes: Probes
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        """Begin to shut down: not ready, streams end, waiting callers get their 202."""
        self.closing.set()
        self.runs.stop_waiting()


async def _services(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.services
    return services


Services = Annotated[ApiServices, Depends(_services)]
