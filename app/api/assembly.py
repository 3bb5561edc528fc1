"""Puts the use cases together from the parts of a process: the same way for the service and for tests.

It makes no adapter and reads no settings; those come in as `Parts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from app.api.services import ApiServices, Probes
from app.dsl.catalog import Catalog
from app.engines.account import Accounting
from app.engines.engine import Engine
from app.ports.clock import Clock
from app.ports.prices import Prices
from app.ports.provider_status import ProviderStatuses
from app.ports.runs import Store
from app.security.redaction import Redactor
from app.services.approvals import ApprovalService
from app.services.asked import AskedOnce
from app.services.batches import BatchService
from app.services.bulk import BulkService
from app.services.configured import Configured
from app.services.definitions import Definitions
from app.services.fixtures import FixtureService
from app.services.idempotency import Idempotency
from app.services.pauses import PauseService
from app.services.plans import PlanService
from app.services.providers import ProviderService
from app.services.reruns import RerunService
from app.services.run_reading import RunReadingService
from app.services.runs import RunService
from app.services.schedules import ScheduleService
from app.services.usage import UsageService
from app.services.webhook_log import DeliveryLog
from app.services.webhook_rules import WebhookRules
from app.services.webhooks import WebhookService
from app.services.workflows import WorkflowService
from app.templating.renderer import Renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the use cases stand on."""

    store: Store
    engine: Engine
    catalog: Catalog
    renderer: Renderer
    clock: Clock
    prices: Prices
    accounting: Accounting
    configured: Configured
    providers: ProviderStatuses
    webhook_rules: WebhookRules
    redactor: Redactor
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    schedules_changed: Callable[[], None] = lambda: None
    """Called when what is due next may have changed."""
    webhooks_changed: Callable[[], None] = lambda: None
    """Called when what has to be delivered may have changed."""


class UseCases:
    """Every use case of a process, each made once. `runs` is there before `behind` is called."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._idempotency = Idempotency(parts.store.idempotency, parts.clock)
        self._definitions = Definitions(parts.store.runs, parts.catalog)
        self.runs = RunService(
            store=parts.store,
            engine=parts.engine,
            catalog=parts.catalog,
            clock=parts.clock,
            idempotency=self._idempotency,
            definitions=self._definitions,
            closing=parts.closing,
            webhooks=parts.webhook_rules,
        )

    def behind(self, probes: Probes) -> ApiServices:
        """What the routes are given."""
        parts = self._parts
        store, engine, clock, runs = parts.store, parts.engine, parts.clock, self.runs
        idempotency, definitions = self._idempotency, self._definitions
        asked = AskedOnce(store.journal, clock)
        reruns = RerunService(store=store, clock=clock, runs=runs, definitions=definitions)
        return ApiServices(
            runs=runs,
            reading=RunReadingService(store=store, runs=runs, definitions=definitions),
            batches=self._batches(),
            bulk=BulkService(store=store, runs=runs, reruns=reruns, idempotency=idempotency),
            fixtures=self._fixtures(),
            pauses=PauseService(runs=store.runs, engine=engine, idempotency=idempotency, asked=asked),
            reruns=reruns,
            usage=UsageService(runs=runs, prices=parts.prices),
            plans=self._plans(),
            workflows=self._workflows(),
            approvals=ApprovalService(
                store=store, engine=engine, clock=clock, idempotency=idempotency, asked=asked
            ),
            schedules=self._schedules(),
            webhooks=self._webhooks(),
            deliveries=DeliveryLog(store),
            providers=ProviderService(parts.providers, parts.configured),
            probes=probes,
            closing=parts.closing,
        )

    def _batches(self) -> BatchService:
        return BatchService(
            store=self._parts.store,
            engine=self._parts.engine,
            catalog=self._parts.catalog,
            clock=self._parts.clock,
            idempotency=self._idempotency,
            definitions=self._definitions,
        )

    def _fixtures(self) -> FixtureService:
        return FixtureService(
            store=self._parts.store,
            runs=self.runs,
            renderer=self._parts.renderer,
            redactor=self._parts.redactor,
        )

    def _plans(self) -> PlanService:
        return PlanService(
            store=self._parts.store,
            catalog=self._parts.catalog,
            definitions=self._definitions,
            renderer=self._parts.renderer,
            configured=self._parts.configured,
            accounting=self._parts.accounting,
        )

    def _workflows(self) -> WorkflowService:
        return WorkflowService(
            store=self._parts.store,
            catalog=self._parts.catalog,
            clock=self._parts.clock,
            idempotency=self._idempotency,
            definitions=self._definitions,
            configured=self._parts.configured,
        )

    def _schedules(self) -> ScheduleService:
        return ScheduleService(
            store=self._parts.store,
            definitions=self._definitions,
            runs=self.runs,
            clock=self._parts.clock,
            idempotency=self._idempotency,
            changed=self._parts.schedules_changed,
        )

    def _webhooks(self) -> WebhookService:
        return WebhookService(
            store=self._parts.store,
            rules=self._parts.webhook_rules,
            clock=self._parts.clock,
            idempotency=self._idempotency,
            changed=self._parts.webhooks_changed,
        )
