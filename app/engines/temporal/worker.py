"""One worker process: executes runs that Temporal places here, until it is told to stop.

On a stop it takes nothing new, lets runs go on for a while, then lets go of the rest: their attempts are
aborted, and the next owner goes on from the journal.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import (
    PollerBehaviorSimpleMaximum,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerDeploymentConfig,
)

from app.engines.runner import RunnerTools
from app.engines.temporal.activities import RunActivities
from app.engines.temporal.client import TemporalClient
from app.engines.temporal.controls import Controls
from app.engines.temporal.engine import TemporalEngine
from app.engines.temporal.outbox import NotPlaced
from app.engines.temporal.pulse import Pulse
from app.engines.temporal.workflow import RunWorkflow
from app.ports.errors import StoreError
from app.ports.runs import Store

log = structlog.get_logger(__name__)

STICKY_SECONDS: Final = 2.0
"""How long a workflow task waits for the worker that had the last one; then any other takes it."""
ACTIVITY_POLLS: Final = 1
"""Each poll of a frozen process may be given a run that nobody executes until the next heartbeat time-out."""
PULSES: Final = 2
"""Heartbeat time-outs after a standstill within which every task is asked for before it is begun."""
FIRST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 5.0
POLLED_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """What one worker takes on."""

    task_queue: str
    max_runs: int
    grace_seconds: float
    deployment: str | None = None
    """Name of a versioned deployment; `build_id` is the version."""
    build_id: str | None = None


class RunWorker:
    """`run` until `stop` is set."""

    def __init__(
        self,
        *,
        store: Store,
        tools: RunnerTools,
        engine: TemporalEngine,
        client: TemporalClient,
        config: WorkerConfig,
    ) -> None:
        self._client = client
        self._check = engine.check
        self._config = config
        self._away = "Temporal was not asked yet"
        """Why nothing is asked for."""
        self._polled_until = 0.0
        self._controls = Controls(store.inbox, store.journal)
        engine.heard = self._controls.look
        self._pulse = Pulse(PULSES * client.heartbeat_seconds)
        self._activities = RunActivities(
            store=store,
            loader=engine.loader,
            tools=tools,
            controls=self._controls,
            pulse=self._pulse,
            is_ours=client.owns,
            identity=client.identity,
            ended=engine.ended,
            gave_up=engine.gave_up,
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Take runs until `stop` is set, then drain. Raises `PermanentError` where it can never work."""
        stopping = asyncio.create_task(stop.wait(), name="worker-stop")
        connecting = asyncio.create_task(self._connected(), name="worker-connect")
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done():
                await self._work(connecting.result(), stopping)
        finally:
            await _end(connecting, stopping)

    async def _work(self, worker: Worker, stopping: asyncio.Task[Any]) -> None:
        """Take runs until told to stop, and drain."""
        self._pulse.start()
        self._controls.start()
        running = asyncio.create_task(worker.run(), name="temporal-worker")
        log.info("worker.ready", task_queue=self._config.task_queue, identity=self._client.identity)
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                log.info("worker.draining", seconds=self._config.grace_seconds)
                await worker.shutdown()
            await running
        finally:
            await _end(running)
            await self._controls.stop()
            await self._pulse.stop()

    async def polled(self) -> str:
        """Which queue Temporal hears this worker ask for runs. Raises `NotPlaced` where it does not.

        An answer holds for a second, however often it is asked for.
        """
        if self._away:
            raise NotPlaced(self._away)
        queue = self._config.task_queue
        now = asyncio.get_running_loop().time()
        if now >= self._polled_until:
            if self._client.identity not in await self._client.workers(queue):
                raise NotPlaced(f"Temporal does not hear this worker ask for runs of task queue {queue!r}")
            self._polled_until = now + POLLED_SECONDS
        return f"asks for runs of task queue {queue!r}"

    async def _connected(self) -> Worker:
        """A worker, as soon as Temporal answers."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._check()
                worker = await self._worker()
            except (NotPlaced, StoreError) as error:
                self._away = str(error)
                away = "temporal.away" if isinstance(error, NotPlaced) else "store.away"
                log.warning(away, error=self._away)
            else:
                self._away = ""
                return worker
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _worker(self) -> Worker:
        config = self._config
        return Worker(
            await self._client.connection(),
            task_queue=config.task_queue,
            workflows=[RunWorkflow],
            activities=[self._activities.execute_run],
            # The sandbox costs a third of a worker's CPU; replays of recorded histories are under it instead.
            workflow_runner=UnsandboxedWorkflowRunner(),
            identity=self._client.identity,
            max_concurrent_activities=config.max_runs,
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(ACTIVITY_POLLS),
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=STICKY_SECONDS),
            graceful_shutdown_timeout=timedelta(seconds=config.grace_seconds),
            deployment_config=_deployment(config),
        )


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Have tasks end, whatever they raise."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _deployment(config: WorkerConfig) -> WorkerDeploymentConfig | None:
    if config.deployment is None or config.build_id is None:
        return None
    version = WorkerDeploymentVersion(deployment_name=config.deployment, build_id=config.build_id)
    return WorkerDeploymentConfig(
        version=version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )
