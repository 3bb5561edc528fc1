"""Builds what talks to Temporal, out of settings. The SDK is an extra: it is imported only from here on.

What does not belong here: behaviour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from app.dsl.catalog import Catalog
from app.engines.called_runs import CalledRuns
from app.engines.embedded import EngineLimits
from app.engines.live import LiveEvents
from app.engines.runner import RunnerTools
from app.engines.temporal.engine import TemporalEngine
from app.engines.temporal.queues import TaskQueues
from app.ports.lock import ExecutorLock
from app.ports.runs import Store
from app.settings_temporal import TemporalSettings

if TYPE_CHECKING:
    from app.engines.temporal.client import TemporalClient
    from app.engines.temporal.worker import RunWorker

EXTRA: Final = "engine 'temporal' needs the extra 'temporal': run pip install '.[temporal]' in the checkout"


def temporal_client(settings: TemporalSettings, *, lazy: bool) -> TemporalClient:
    """A client that is not connected yet. Raises `ValueError` where the SDK is not installed."""
    try:
        from app.engines.temporal.client import (  # noqa: PLC0415  an optional, heavy package
            TemporalClient,
            TemporalConfig,
        )
        from app.engines.temporal.tls import TlsFiles  # noqa: PLC0415  as above
    except ModuleNotFoundError as error:
        raise ValueError(EXTRA) from error
    tls = TlsFiles(
        ca=settings.tls_ca,
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        server_name=settings.tls_server_name,
    )
    config = TemporalConfig(
        address=settings.address,
        namespace=settings.namespace,
        heartbeat_seconds=settings.heartbeat_seconds,
        tls=tls if settings.uses_tls else None,
        api_key=None if settings.api_key is None else settings.api_key.get_secret_value(),
        metrics_address=None if lazy else settings.metrics_address,
    )
    return TemporalClient(config, lazy=lazy)


def temporal_engine(
    settings: TemporalSettings,
    client: TemporalClient,
    *,
    store: Store,
    catalog: Catalog,
    tools: RunnerTools,
    called: CalledRuns,
    live: LiveEvents,
    lock: ExecutorLock | None,
    limits: EngineLimits,
) -> TemporalEngine:
    """The engine of an API process, or without a `lock` of a worker."""
    queues = TaskQueues(
        common=settings.task_queue, by_tenant=settings.tenant_queues, by_label=settings.label_queues
    )
    return TemporalEngine(
        store=store,
        catalog=catalog,
        tools=tools,
        called=called,
        live=live,
        lock=lock,
        placer=client,
        queues=queues,
        limits=limits,
    )


def run_worker(
    settings: TemporalSettings,
    client: TemporalClient,
    *,
    store: Store,
    tools: RunnerTools,
    engine: TemporalEngine,
    grace_seconds: float,
) -> RunWorker:
    """A worker for the settings' task queue."""
    from app.engines.temporal.worker import RunWorker, WorkerConfig  # noqa: PLC0415  as above

    config = WorkerConfig(
        task_queue=settings.task_queue,
        max_runs=settings.max_runs,
        grace_seconds=grace_seconds,
        deployment=settings.deployment,
        build_id=settings.build_id,
    )
    return RunWorker(store=store, tools=tools, engine=engine, client=client, config=config)
