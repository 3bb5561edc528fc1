"""The composition root: the only place that makes concrete adapters and puts the parts together.

`build` turns settings into a `Service`; tests and tools pass `Overrides` for the parts that touch the
outside world. What does not belong here: behaviour.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import assert_never

import structlog
from fastapi import FastAPI
from pydantic import SecretStr

from app.api.app import create_api
from app.api.callers import Callers
from app.api.readiness import readiness_checks
from app.api.services import ApiServices, Probes
from app.dsl.catalog import Catalog
from app.dsl.policies import PlanDefaults
from app.engines.attempts import AttemptLimits, Attempts
from app.engines.decisions import Decisions
from app.engines.embedded import EmbeddedEngine, EngineLimits
from app.engines.live import LiveEvents
from app.engines.observer import RunObserver
from app.engines.runner import RunnerTools
from app.engines.slots import Slots
from app.observability.http_metrics import instrument
from app.observability.loop_lag import LoopLag
from app.observability.metrics import Metrics
from app.observability.recorder import NoMetrics, Recorder
from app.observability.tracing import Tracer, make_tracer
from app.ports.clock import Clock
from app.ports.errors import StoreError
from app.ports.lock import ExecutorLock
from app.ports.runs import Store
from app.providers.echo import EchoConfig
from app.providers.instances import InstanceConfig, LocalConfig
from app.providers.openai import OpenAIConfig
from app.providers.registry import Providers, connect
from app.providers.transport import Transport
from app.security.egress import EgressPolicy
from app.security.redaction import Redactor
from app.services.definitions import Definitions
from app.services.idempotency import Idempotency
from app.services.runs import RunService
from app.services.workflows import WorkflowService
from app.settings import EchoSettings, LocalSettings, OpenAISettings, ProviderSettings, Settings
from app.steps.registry import STEP_KINDS
from app.stores.expiry import KEEP_SECONDS
from app.stores.file_lock import FileLock
from app.stores.recent import RecentWorkflows
from app.stores.sql.sqlite import SqliteStore
from app.stores.vectors import EmbeddedVectorStore
from app.templating.limits import RenderLimits
from app.templating.renderer import Renderer

VECTORS_FILE = "vectors.db"
MIB = 2**20
PRUNE_SECONDS = 3600.0

log = structlog.get_logger(__name__)


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """Parts to be used instead of those the settings name."""

    store: Store | None = None
    lock: ExecutorLock | None = None
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
    engine: EmbeddedEngine
    store: Store
    vectors: EmbeddedVectorStore
    providers: Providers
    renderer: Renderer
    lag: LoopLag
    tracer: Tracer
    clock: Clock
    drain_seconds: float
    background: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self) -> None:
        """Open what is durable, then take up runs. Raises `StoreError` with what to do."""
        await self.store.open()
        await self.vectors.open()
        self.lag.start()
        await self.engine.start()
        # The first call to a provider should not have to load the HTTP client.
        self.background.add(asyncio.create_task(self.providers.warm(), name="warm-providers"))
        self.background.add(asyncio.create_task(self._prune(), name="prune"))

    async def _prune(self) -> None:
        """Forget idempotency keys that have expired, now and then."""
        while True:
            await asyncio.sleep(PRUNE_SECONDS)
            try:
                await self.store.idempotency.prune(self.clock.now() - KEEP_SECONDS)
            except StoreError:
                log.warning("prune.failed", exc_info=True)

    def begin_drain(self) -> None:
        """Turn readiness false and end event streams; runs go on."""
        self.api.close()

    async def drain(self, grace_seconds: float) -> None:
        """Let runs end for that long and hand the rest over; harmless when done already."""
        self.begin_drain()
        await self.engine.drain(grace_seconds)

    async def close(self) -> None:
        """Release everything, in the order of dependence."""
        for task in self.background:
            task.cancel()
        await asyncio.gather(*self.background, return_exceptions=True)
        await self.drain(0.0)
        await self.providers.aclose()
        await self.renderer.close()
        self.lag.stop()
        await self.vectors.close()
        await self.store.close()
        await asyncio.to_thread(self.tracer.close)


def build(settings: Settings, overrides: Overrides | None = None) -> Service:
    """Wire a service; nothing is opened yet. Raises `ValueError` for settings that cannot work."""
    return _Wiring(settings, overrides or Overrides()).service()


class _Wiring:
    """The parts of one service, each made once, lower layers first."""

    def __init__(self, settings: Settings, use: Overrides) -> None:
        self.settings = settings
        self.use = use
        self.clock = use.clock or SystemClock()
        self.metrics = Metrics() if settings.telemetry.metrics else None
        self.recorder: Recorder = self.metrics or NoMetrics()
        self.tracer = make_tracer(
            endpoint=settings.telemetry.otlp_endpoint,
            redaction=redactor(settings),
            service_name=settings.telemetry.service_name,
        )
        store = use.store or SqliteStore(settings.data_dir, observer=self.recorder, now=self.clock.now)
        self.store = use.around_store(store)
        self.store.workflows = RecentWorkflows(self.store.workflows, monotonic=time.monotonic)
        self.vectors = EmbeddedVectorStore(
            settings.data_dir / VECTORS_FILE, cache_bytes=settings.vectors.cache_mib * MIB
        )
        self.providers = self._providers()
        self.renderer = Renderer(_render_limits(settings), workers=settings.templates.workers)
        self.catalog = Catalog(STEP_KINDS, _plan_defaults(settings))
        self.engine = self._engine()
        self.lag = LoopLag(self.recorder)

    def service(self) -> Service:
        """All of it behind the API."""
        api = self._api()
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
            store=self.store,
            vectors=self.vectors,
            providers=self.providers,
            renderer=self.renderer,
            lag=self.lag,
            tracer=self.tracer,
            clock=self.clock,
            drain_seconds=self.settings.server.drain_seconds,
        )
        app.state.service = service
        return service

    def _providers(self) -> Providers:
        egress = self.settings.egress
        configured = self.settings.all_providers().items()
        return connect(
            [_instance_config(name, config) for name, config in configured],
            policy=EgressPolicy(allow_private=egress.allow_private, allowed_hosts=egress.allowed_hosts),
            vectors={"embedded": self.vectors},
            recorder=self.recorder,
            tracer=self.tracer,
            action_webhook=self.settings.actions.webhook_url,
            transport=self.use.transport,
            guarded=self.use.guarded,
        )

    def _engine(self) -> EmbeddedEngine:
        runs = self.settings.runs
        live = LiveEvents()
        limits = AttemptLimits(
            default_timeout_seconds=runs.default_timeout_seconds, max_output_bytes=runs.max_output_bytes
        )
        return EmbeddedEngine(
            store=self.store,
            catalog=self.catalog,
            tools=RunnerTools(
                journal=self.store.journal,
                attempts=Attempts(self.providers, self.renderer, self.clock, limits),
                decisions=Decisions(self.renderer, self.clock, limits),
                slots=Slots(runs.max_attempts_in_flight),
                clock=self.clock,
                observer=RunObserver(self.recorder, self.tracer, live, self.clock),
            ),
            live=live,
            lock=self.use.lock or FileLock(self.settings.data_dir),
            limits=EngineLimits(max_active_runs=runs.max_active, max_pending_runs=runs.max_pending),
        )

    def _api(self) -> ApiServices:
        closing = asyncio.Event()
        idempotency = Idempotency(self.store.idempotency, self.clock)
        definitions = Definitions(self.store.runs, self.catalog)
        memory = self.settings.server.max_memory_mib
        return ApiServices(
            runs=RunService(
                store=self.store,
                catalog=self.catalog,
                engine=self.engine,
                clock=self.clock,
                idempotency=idempotency,
                definitions=definitions,
                closing=closing,
            ),
            workflows=WorkflowService(
                store=self.store,
                catalog=self.catalog,
                clock=self.clock,
                idempotency=idempotency,
                definitions=definitions,
            ),
            probes=Probes(
                loop_lag_seconds=self.lag.since_last_tick,
                checks=readiness_checks(
                    self.store, self.engine, max_memory_bytes=memory * MIB if memory else None
                ),
                exposition=self.metrics.exposition if self.metrics else _no_metrics,
            ),
            closing=closing,
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


def _instance_config(name: str, config: ProviderSettings) -> InstanceConfig:
    match config:
        case OpenAISettings():
            return OpenAIConfig(
                name=name,
                base_url=config.base_url,
                api_key=config.api_key,
                organization=config.organization,
                project=config.project,
                headers=config.headers,
                embedding_format=config.embedding_format,
                timeout_seconds=config.timeout_seconds,
                max_concurrency=config.max_concurrency,
            )
        case EchoSettings():
            return EchoConfig(name=name, latency_ms=config.latency_ms)
        case LocalSettings():
            return LocalConfig(name=name, threads=config.threads, max_concurrency=config.max_concurrency)
        case _:
            assert_never(config)


def _plan_defaults(settings: Settings) -> PlanDefaults:
    runs = settings.runs
    return PlanDefaults(max_concurrency=runs.max_concurrency, step_timeout=runs.default_timeout_seconds)


def _no_metrics() -> tuple[bytes, str]:
    return b"# metrics are switched off: telemetry.metrics is false\n", "text/plain; charset=utf-8"


def _render_limits(settings: Settings) -> RenderLimits:
    return RenderLimits(
        max_output_chars=settings.templates.max_output_chars,
        timeout_seconds=settings.templates.timeout_seconds,
        memory_bytes=settings.templates.memory_mib * MIB,
    )


def redactor(settings: Settings) -> Redactor:
    """Knows every secret of the settings, for logs and spans."""
    secrets: list[SecretStr] = []
    for config in settings.all_providers().values():
        if isinstance(config, OpenAISettings):
            secrets += config.headers.values()
            secrets += () if config.api_key is None else (config.api_key,)
    return Redactor(secret.get_secret_value() for secret in secrets)
