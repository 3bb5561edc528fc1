"""The connection to a Temporal cluster, and the two things that are asked of it: place a run, wake a run.

Connects when it is first needed, so a process starts and accepts runs while Temporal is away. What does not
belong here: when to try again (`outbox`), what a worker does (`worker`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import AsyncActivityCancelledError, Client, KeepAliveConfig
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError, RPCStatusCode

from app.engines.temporal.contract import WAKE, WORKFLOW, Placement
from app.engines.temporal.outbox import NotPlaced
from app.engines.temporal.tls import TlsFiles, tls_fault
from app.ports.errors import PermanentError

CALL_SECONDS: Final = 5.0
"""Longest that Temporal may take to answer."""
CHECK_SECONDS: Final = 3.0
PING_SECONDS: Final = 15.0
"""Between two questions whether Temporal is still there; it breaks off with who asks every ten seconds."""
PONG_SECONDS: Final = 5.0
"""A connection on which no answer comes for that long is given up."""
SDK_LOGGER: Final = "temporalio.core"
LOCKED_OUT: Final = ("code: Unauthenticated", "code: PermissionDenied")
"""How the SDK words it where it is not let in while it connects; there is no code to go by."""
TASK_SECONDS: Final = 5.0
"""After that long a workflow task is given to another worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConfig:
    """Where the cluster is and how to get in."""

    address: str
    namespace: str
    heartbeat_seconds: float
    tls: TlsFiles | None = None
    """None: no TLS."""
    api_key: str | None = None
    metrics_address: str | None = None
    """`host:port` on which the SDK's own metrics are served for Prometheus."""


class TemporalClient:
    """Implements `app.engines.temporal.outbox.Placer`."""

    def __init__(self, config: TemporalConfig, *, lazy: bool = True) -> None:
        """`lazy`: connect with the first call. A worker needs a client that is connected from the start."""
        self._lazy = lazy
        self.identity = f"{os.getpid()}@{socket.gethostname()}"
        self.heartbeat_seconds = config.heartbeat_seconds
        self._config = config
        self._client: Client | None = None
        self._runtime: Runtime | None = None
        self._connecting = asyncio.Lock()

    async def connection(self) -> Client:
        """The SDK's client. Raises `NotPlaced`, and `PermanentError` for files that cannot be read."""
        async with self._connecting:
            if self._client is None:
                try:
                    async with asyncio.timeout(CHECK_SECONDS):
                        self._client = await self._connect()
                except (RuntimeError, TimeoutError) as error:
                    address = self._config.address
                    raise NotPlaced(f"cannot connect to Temporal at {address!r}: {error}") from error
        return self._client

    async def _connect(self) -> Client:
        config = self._config
        if self._runtime is None:
            self._runtime = _runtime(config.metrics_address)
        return await Client.connect(
            config.address,
            namespace=config.namespace,
            api_key=config.api_key,
            tls=False if config.tls is None else config.tls.config(),
            identity=self.identity,
            lazy=self._lazy,
            runtime=self._runtime,
            keep_alive_config=KeepAliveConfig(
                interval_millis=round(1000 * PING_SECONDS), timeout_millis=round(1000 * PONG_SECONDS)
            ),
        )

    async def check(self) -> None:
        """Raise `PermanentError` if these settings can never work, `NotPlaced` if nobody answers."""
        try:
            await self._find_namespace()
        except NotPlaced as error:
            config = self._config
            if any(word in str(error) for word in LOCKED_OUT):
                raise self._locked_out() from error
            fault = await asyncio.to_thread(tls_fault, config.address, config.tls)
            if fault is not None:
                raise PermanentError("permission", fault) from error
            raise

    async def _find_namespace(self) -> None:
        client = await self.connection()
        asked = DescribeNamespaceRequest(namespace=self._config.namespace)
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await client.workflow_service.describe_namespace(asked)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise PermanentError(
                    "not_found",
                    f"Temporal at {self._config.address!r} has no namespace {self._config.namespace!r}: "
                    "create it, or set temporal.namespace to one that exists",
                ) from error
            if error.status in {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED}:
                raise self._locked_out() from error
            raise NotPlaced(_reason(error)) from error
        except (RuntimeError, TimeoutError) as error:
            raise NotPlaced(f"Temporal at {self._config.address!r} does not answer: {error}") from error

    def _locked_out(self) -> PermanentError:
        return PermanentError(
            "permission",
            f"Temporal at {self._config.address!r} lets nobody in with these credentials: check "
            "temporal.api_key, or temporal.tls_certificate and temporal.tls_key",
        )

    async def owns(self, task_token: bytes) -> bool:
        """Whether the activity with this token is the one that Temporal waits for; yes if it does not say."""
        client = await self.connection()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await client.get_async_activity_handle(task_token=task_token).heartbeat()
        except (AsyncActivityCancelledError, TimeoutError):
            return True  # it is told so the usual way
        except RPCError as error:
            return error.status is not RPCStatusCode.NOT_FOUND
        return True

    async def workers(self, queue: str) -> AbstractSet[str]:
        """Identities of those that asked this queue for runs in the last minutes. Raises `NotPlaced`."""
        client = await self.connection()
        asked = DescribeTaskQueueRequest(
            namespace=self._config.namespace,
            task_queue=TaskQueue(name=queue),
            # One that is full asks for no further activity, and still for workflow tasks.
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                found = await client.workflow_service.describe_task_queue(asked)
        except RPCError as error:
            raise NotPlaced(_reason(error)) from error
        except (RuntimeError, TimeoutError) as error:
            raise NotPlaced(f"Temporal at {self._config.address!r} does not answer: {error}") from error
        return {poller.identity for poller in found.pollers}

    async def placed(self, queue: str, *, limit: int) -> frozenset[str]:
        """Ids of the newest runs on this queue that have not ended. Raises `NotPlaced`."""
        client = await self.connection()
        name = queue.replace("\\", "\\\\").replace("'", "\\'")
        query = f"TaskQueue = '{name}' AND WorkflowType = '{WORKFLOW}' AND ExecutionStatus = 'Running'"
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return frozenset([it.id async for it in client.list_workflows(query, limit=limit)])
        except RPCError as error:
            raise NotPlaced(_reason(error)) from error
        except (RuntimeError, TimeoutError) as error:
            raise NotPlaced(f"Temporal at {self._config.address!r} does not answer: {error}") from error

    async def place(self, run_id: str, *, queue: str, wake: bool) -> None:
        """Have a worker of this queue execute the run; harmless for one that is placed already.

        `wake`: something happened to it that its timer does not know of. Raises `NotPlaced`.
        """
        client = await self.connection()
        try:
            await client.start_workflow(
                WORKFLOW,
                Placement(run_id, self._config.heartbeat_seconds),
                id=run_id,
                task_queue=queue,
                task_timeout=timedelta(seconds=TASK_SECONDS),
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                start_signal=WAKE if wake else None,
                rpc_timeout=timedelta(seconds=CALL_SECONDS),
            )
        except RPCError as error:
            raise NotPlaced(_reason(error)) from error
        except RuntimeError as error:
            raise NotPlaced(f"Temporal at {self._config.address!r} does not answer: {error}") from error


def _reason(error: RPCError) -> str:
    return f"Temporal refuses ({error.status.name}): {error.message}"


def _runtime(metrics_address: str | None) -> Runtime:
    """The SDK's core, which by itself would write to stdout, in a manner of its own."""
    forwarded = LogForwardingConfig(
        logger=logging.getLogger(SDK_LOGGER), append_target_to_name=False, prepend_target_on_message=False
    )
    filtered = TelemetryFilter(core_level="WARN", other_level="ERROR")
    exposed = None if metrics_address is None else PrometheusConfig(bind_address=metrics_address)
    telemetry = TelemetryConfig(logging=LoggingConfig(filter=filtered, forwarding=forwarded), metrics=exposed)
    try:
        return Runtime(telemetry=telemetry)
    except ValueError as error:
        raise PermanentError(
            "invalid_config", f"temporal.metrics_address {metrics_address!r} cannot be used: {error}"
        ) from error
