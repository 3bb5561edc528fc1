"""The composition root: the only place that makes concrete adapters and puts the parts together.

`build` turns settings into a `Service`; tests and tools pass `Overrides` for the parts that touch the
outside world. What does not belong here: behaviour.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import FastAPI

from app.api.app import create_api
from app.api.assembly import Parts, UseCases
from app.api.callers import Callers
from app.api.readiness import readiness_checks
from app.api.services import ApiServices, Probes
from app.configuration import (
    breaker_policy,
    database_config,
    delivery_policy,
    instance_config,
    instance_terms,
    redactor,
    webhook_secret,
)
from app.databases import Database, build_database, watched
from app.dsl.catalog import Catalog
from app.engines.account import Accounting
from app.engines.attempts import AttemptLimits, Attempts
from app.engines.called_runs import CalledRuns
from app.engines.decisions import Decisions
from app.engines.embedded import EmbeddedEngine, EngineLimits
from app.engines.engine import PlacingEngine
from app.engines.live import LiveEvents
from app.engines.observer import RunObserver
from app.engines.relay import Relay
from app.engines.runner import RunnerTools
from app.engines.slots import Slots
from app.engines.step_cache import CachedOutcomes
from app.observability.http_metrics import instrument
from app.observability.loop_lag import LoopLag
from app.observability.machine_clock import MachineClock
from app.observability.metrics import Metrics
from app.observability.recorder import NoMetrics, Recorder
from app.observability.tracing import Tracer, make_tracer
from app.placement import temporal_client, temporal_engine
from app.ports.clock import Clock
from app.ports.lock import ExecutorLock
from app.ports.peers import Peers
from app.ports.runs import ANSWERS_KEPT_SECONDS, Store
from app.ports.vectors import VectorStore
from app.providers.contracted import ContractedVectors
from app.providers.prices import keyless, price_list
from app.providers.registry import Providers, connect
from app.providers.statuses import Statuses, WatchedDatabase
from app.providers.transport import Transport
from app.providers.webhook_http import WebhookHttp
from app.providers.wrapping import Wrapping
from app.security.egress import EgressPolicy
from app.services.configured import Configured
from app.services.retention import Retention
from app.services.schedule_ticker import ScheduleTicker
from app.services.webhook_delivery import WebhookDispatcher
from app.services.webhook_rules import WebhookRules
from app.services.webhook_sender import WebhookSender
from app.settings import (
    EMBEDDED_DATABASE,
    Settings,
)
from app.steps.registry import STEP_KINDS
from app.storage import Storage, make_storage
from app.stores.recent import RecentWorkflows
from app.stores.vectors import EmbeddedVectorStore
from app.templating.renderer import Renderer

if TYPE_CHECKING:
    from app.engines.temporal.client import TemporalClient

VECTORS_FILE = "vectors.db"
MIB = 2**20
DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Parts to be used instead of those the settings name."""

    store: Store | None = None
    lock: ExecutorLock | None = None
    peers: Peers | None = None
    clock: Clock | None = None
    transport: Transport | None = None
    """Carries calls to providers."""
    guarded: Transport | None = None
    """Carries calls to URLs of documents."""
    around_store: Callable[[Store], Store] = lambda store: store
    """Wraps the store, whichever it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Everything of one process, wired. `start` it once, `drain` it before `close`."""

    app: FastAPI
    api: ApiServices
    catalog: Catalog
    engine: PlacingEngine
    relay: Relay
    tools: RunnerTools
    temporal: TemporalClient | None
    """The connection to Temporal, where that is what executes runs."""
    ticker: ScheduleTicker
    dispatcher: WebhookDispatcher
    store: Store
    vectors: EmbeddedVectorStore
    databases: Sequence[Database]
    providers: Providers
    renderer: Renderer
    lag: LoopLag
    tracer: Tracer
    retention: Retention
    cached: CachedOutcomes
    drain_seconds: float
    background: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        """Open what is durable, then take up runs. Raises `StoreError` with what to do."""
        await self.store.open()
        await self.vectors.open()
        self.lag.start()
        await self.relay.start()
        await self.engine.start()
        # The first call to a provider should not have to load the HTTP client.
        self.background.add(asyncio.create_task(self.providers.warm(), name="warm-providers"))

    async def start(self) -> None:
        """The same, and what API processes do beside runs. Raises as `open`."""
        await self.open()
        self.ticker.start()
        self.dispatcher.start()
        self.background.add(asyncio.create_task(self.retention.run(), name="retention"))

    def begin_drain(self) -> None:
        """Turn readiness false and end event streams; runs go on."""
        self.api.close()

    async def drain(self, grace_seconds: float) -> None:
        """Let runs end for that long and hand the rest over; harmless when done already."""
        self.begin_drain()
        await self.ticker.stop()
        # Together, so that a receiver that hangs takes no time from the runs.
        await asyncio.gather(self.dispatcher.stop(grace_seconds), self.engine.drain(grace_seconds))

    async def close(self) -> None:
        """Release everything, in the order of dependence."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self.drain(0.0)
        await self.relay.stop()
        await self.cached.close()
        await self.providers.aclose()
        await self.renderer.close()
        self.lag.stop()
        for database in self.databases:
            await database.aclose()
        await self.vectors.close()
        await self.store.close()
        await asyncio.to_thread(self.tracer.close)


def build(settings: Settings, overrides: Overrides | None = None) -> Service:
    """Wire a service; nothing is opened yet. Raises `ValueError` for settings that cannot work."""
    return _Wiring(settings, overrides or Overrides()).service()


def build_worker(settings: Settings, overrides: Overrides | None = None) -> Service:
    """Wire a process that executes runs for others. Raises as `build`."""
    if settings.engine != "temporal":
        raise ValueError("a worker needs the engine 'temporal': set ORCHESTRATOR_ENGINE=temporal")
    return _Wiring(settings, overrides or Overrides(), works=True).service()


class _Wiring:
    """The parts of one service, each made once, lower layers first."""

    def __init__(self, settings: Settings, use: Overrides, *, works: bool = False) -> None:
        """`works`: it executes what others accept."""
        self.works = works
        self.temporal: TemporalClient | None = None
        self.settings = settings
        self.use = use
        self.clock = use.clock or MachineClock()
        self.metrics = Metrics() if settings.telemetry.metrics else None
        self.recorder: Recorder = self.metrics or NoMetrics()
        self.tracer = make_tracer(
            endpoint=settings.telemetry.otlp_endpoint,
            redaction=redactor(settings),
            service_name=settings.telemetry.service_name,
        )
        self.storage = self._storage()
        self.store = self.storage.store
        self.vectors = EmbeddedVectorStore(
            settings.data_dir / VECTORS_FILE, cache_bytes=settings.vectors.cache_mib * MIB
        )
        egress = settings.egress
        self.policy = EgressPolicy(allow_private=egress.allow_private, allowed_hosts=egress.allowed_hosts)
        self.transport = use.transport or Transport.over_sockets()
        self.guarded = use.guarded or Transport.over_sockets(self.policy)
        named = settings.all_providers()
        self.instances = [instance_config(name, config) for name, config in named.items()]
        self.configured = Configured(
            providers=frozenset(named), databases=settings.all_databases(), keyless=keyless(self.instances)
        )
        self.terms = {name: instance_terms(config) for name, config in named.items()}
        self.wrapping = Wrapping(recorder=self.recorder, tracer=self.tracer, breaker=breaker_policy(settings))
        self.databases = [
            build_database(
                database_config(name, config), self.transport, self.wrapping, instance_terms(config)
            )
            for name, config in settings.databases.items()
        ]
        self.providers = self._providers()
        self.prices = price_list(self.instances, settings.own_prices())
        self.accounting = Accounting(prices=self.prices, max_tokens=settings.runs.default_max_tokens)
        self.renderer = Renderer(settings.templates.limits(), workers=settings.templates.workers)
        self.catalog = Catalog(STEP_KINDS, settings.runs.plan_defaults())
        self.engine = self._engine()
        self.lag = LoopLag(self.recorder)
        self.webhook_rules = WebhookRules(policy=self.policy, default_secret=webhook_secret(settings))
        self.dispatcher = self._dispatcher()
        self.use_cases = self._use_cases()
        self.ticker = ScheduleTicker(
            store=self.store, runs=self.use_cases.runs, engine=self.engine, clock=self.clock
        )

    def service(self) -> Service:
        """All of it behind the API."""
        api = self.use_cases.behind(self._probes())
        server = self.settings.server
        app = create_api(
            api,
            lifespan=_lifespan,
            max_body_bytes=server.max_body_bytes,
            callers=Callers(host=server.host, allowed_hosts=server.allowed_hosts, open=server.allow_open),
        )
        if self.metrics is not None:
            instrument(app, self.metrics)
        self.tracer.instrument(app)
        service = Service(
            app=app,
            api=api,
            catalog=self.catalog,
            engine=self.engine,
            relay=self.relay,
            tools=self.tools,
            temporal=self.temporal,
            ticker=self.ticker,
            dispatcher=self.dispatcher,
            store=self.store,
            vectors=self.vectors,
            databases=self.databases,
            providers=self.providers,
            renderer=self.renderer,
            lag=self.lag,
            tracer=self.tracer,
            retention=self._retention(),
            cached=self.cached,
            drain_seconds=self.settings.server.drain_seconds,
        )
        app.state.service = service
        return service

    def _storage(self) -> Storage:
        made = make_storage(
            self.settings, observer=self.recorder, now=self.clock.now, heard=self._heard_of_work
        )
        store = self.use.around_store(self.use.store or made.store)
        store.workflows = RecentWorkflows(store.workflows, monotonic=time.monotonic)
        return Storage(store=store, lock=self.use.lock or made.lock, peers=self.use.peers or made.peers)

    def _retention(self) -> Retention:
        days = self.settings.runs.keep_finished_days
        return Retention(
            self.store,
            self.clock,
            keep_seconds=None if days is None else days * DAY_SECONDS,
            keep_answers_seconds=ANSWERS_KEPT_SECONDS,
        )

    def _providers(self) -> Providers:
        return connect(
            self.instances,
            policy=self.policy,
            vectors=self._vector_stores(),
            wrapping=self.wrapping,
            terms=self.terms,
            action_webhook=self.settings.actions.webhook_url,
            transport=self.transport,
            guarded=self.guarded,
        )

    def _vector_stores(self) -> dict[str, VectorStore]:
        stores = {it.name: it.store for it in self.databases}
        stores[EMBEDDED_DATABASE] = self.wrapping.vectors(self.vectors, EMBEDDED_DATABASE)
        contracts = self.store.index_contracts
        return {name: ContractedVectors(store, name, contracts) for name, store in stores.items()}

    def _tools(self, live: LiveEvents, called: CalledRuns) -> RunnerTools:
        runs = self.settings.runs
        limits = AttemptLimits(
            default_timeout_seconds=runs.default_timeout_seconds, max_output_bytes=runs.max_output_bytes
        )
        self.cached = CachedOutcomes(self.store.cache, self.renderer, self.clock, limits, self.recorder)
        return RunnerTools(
            journal=self.store.journal,
            attempts=Attempts(
                self.providers, self.renderer, self.clock, limits, cache=self.cached, prices=self.prices
            ),
            decisions=Decisions(self.renderer, self.clock, limits, called),
            slots=Slots(runs.max_attempts_in_flight),
            clock=self.clock,
            observer=RunObserver(self.recorder, self.tracer, live, self.clock),
            children=called,
            accounting=self.accounting,
        )

    def _engine(self) -> PlacingEngine:
        settings, live = self.settings, LiveEvents()
        self.relay = Relay(live, self.storage.peers, look=self._heard_of_work)
        called = CalledRuns(self.store, self.catalog, self.clock)
        self.tools = self._tools(live, called)
        limits = EngineLimits(
            max_active_runs=settings.runs.max_active, max_pending_runs=settings.runs.max_pending
        )
        lock = self.storage.lock
        if settings.engine == "temporal":
            self.temporal = temporal_client(settings.temporal, lazy=not self.works)
            return temporal_engine(
                settings.temporal,
                self.temporal,
                store=self.store,
                catalog=self.catalog,
                tools=self.tools,
                called=called,
                live=live,
                lock=None if self.works else lock,
                limits=limits,
            )
        return EmbeddedEngine(
            store=self.store,
            catalog=self.catalog,
            tools=self.tools,
            called=called,
            live=live,
            lock=lock,
            limits=limits,
        )

    def _use_cases(self) -> UseCases:
        return UseCases(
            Parts(
                store=self.store,
                engine=self.engine,
                catalog=self.catalog,
                renderer=self.renderer,
                clock=self.clock,
                prices=self.prices,
                accounting=self.accounting,
                configured=self.configured,
                providers=self._statuses(),
                webhook_rules=self.webhook_rules,
                redactor=redactor(self.settings),
                schedules_changed=self._schedules_changed,
                webhooks_changed=self.dispatcher.wake,
            )
        )

    def _statuses(self) -> Statuses:
        embedded = WatchedDatabase(name=EMBEDDED_DATABASE, vendor=EMBEDDED_DATABASE, hybrid=True)
        return Statuses(self.providers.instances, [embedded, *watched(self.databases)])

    def _heard_of_work(self) -> None:
        """The engine stands on the store, so it is made after it."""
        self.engine.look()

    def _schedules_changed(self) -> None:
        """The ticker stands on the use cases, so it is made after them."""
        self.ticker.wake()

    def _dispatcher(self) -> WebhookDispatcher:
        policy = delivery_policy(self.settings)
        return WebhookDispatcher(
            webhooks=self.store.webhooks,
            sender=WebhookSender(
                http=WebhookHttp(self.guarded, self.policy),
                journal=self.store.journal,
                clock=self.clock,
                policy=policy,
                default_secret=self.webhook_rules.default_secret,
            ),
            engine=self.engine,
            clock=self.clock,
            recorder=self.recorder,
            policy=policy,
        )

    def _probes(self) -> Probes:
        memory = self.settings.server.max_memory_mib
        most = memory * MIB if memory else None
        return Probes(
            loop_lag_seconds=self.lag.since_last_tick,
            checks=readiness_checks(self.store, self.engine, max_memory_bytes=most),
            exposition=self.metrics.exposition if self.metrics else _no_metrics,
        )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    await service.start()
    try:
        yield
    finally:
        await service.drain(service.drain_seconds)
        await service.close()


def _no_metrics() -> tuple[bytes, str]:
    return b"# metrics are switched off: telemetry.metrics is false\n", "text/plain; charset=utf-8"
