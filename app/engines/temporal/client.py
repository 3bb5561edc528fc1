"""The connection to a Temporal cluster, and the two things that are asked of it: place a run, wake a run.

Connects when it is first needed, so a process starts and accepts runs while Temporal is away. What does not
belong here: when to try again (`outbox`), what a worker does (`worker`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, DescribeTaskQueueRequest
from temporalio.client import AsyncActivityCancelledError, Client, TLSConfig
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from app.engines.temporal.contract import WAKE, WORKFLOW, Placement
from app.engines.temporal.outbox import NotPlaced
from app.ports.errors import PermanentError

CALL_SECONDS: Final = 5.0
"""Longest that Temporal may take to answer."""
CHECK_SECONDS: Final = 3.0
TASK_SECONDS: Final = 5.0
"""After that long a workflow task is given to another worker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Paths of PEM files; a client certificate comes with its key."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalConfig:
    """Where the cluster is and how to get in."""

    address: str
    namespace: str
    heartbeat_seconds: float
    tls: TlsFiles | None = None
    """None: no TLS, unless there is an API key."""
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
        self._connecting = asyncio.Lock()

    async def connection(self) -> Client:
        """The SDK's client. Raises `NotPlaced`, and `PermanentError` for files that cannot be read."""
        async with self._connecting:
            if self._client is None:
                try:
                    self._client = await self._connect()
                except RuntimeError as error:
                    address = self._config.address
                    raise NotPlaced(f"cannot connect to Temporal at {address!r}: {error}") from error
        return self._client

    async def _connect(self) -> Client:
        config = self._config
        runtime = None
        if config.metrics_address is not None:
            exposed = PrometheusConfig(bind_address=config.metrics_address)
            runtime = Runtime(telemetry=TelemetryConfig(metrics=exposed))
        return await Client.connect(
            config.address,
            namespace=config.namespace,
            api_key=config.api_key,
            tls=False if config.tls is None and config.api_key is None else _tls(config.tls),
            identity=self.identity,
            lazy=self._lazy,
            runtime=runtime,
        )

    async def check(self) -> None:
        """Raise `PermanentError` if there is no such namespace, `NotPlaced` if nobody answers."""
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
                raise PermanentError(
                    "permission",
                    f"Temporal at {self._config.address!r} lets nobody in with these credentials: check "
                    "temporal.api_key, or temporal.tls_certificate and temporal.tls_key",
                ) from error
            raise NotPlaced(_reason(error)) from error
        except (RuntimeError, TimeoutError) as error:
            raise NotPlaced(f"Temporal at {self._config.address!r} does not answer: {error}") from error

    async def owns(self, task_token: bytes) -> bool:
        """Whether the activity with this token is still the one that Temporal waits for."""
        client = await self.connection()
        try:
            await client.get_async_activity_handle(task_token=task_token).heartbeat()
        except AsyncActivityCancelledError:
            return True  # it is told so the usual way
        except RPCError as error:
            return error.status is not RPCStatusCode.NOT_FOUND
        return True

    async def workers(self, queue: str) -> int:
        """How many workers asked this queue for runs in the last minutes. Raises `NotPlaced`."""
        client = await self.connection()
        asked = DescribeTaskQueueRequest(
            namespace=self._config.namespace,
            task_queue=TaskQueue(name=queue),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
        )
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                found = await client.workflow_service.describe_task_queue(asked)
        except RPCError as error:
            raise NotPlaced(_reason(error)) from error
        except (RuntimeError, TimeoutError) as error:
            raise NotPlaced(f"Temporal at {self._config.address!r} does not answer: {error}") from error
        return len({poller.identity for poller in found.pollers})

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


def _tls(files: TlsFiles | None) -> TLSConfig | bool:
    if files is None:
        return True
    return TLSConfig(
        server_root_ca_cert=_content(files.ca, "temporal.tls_ca"),
        domain=files.server_name,
        client_cert=_content(files.certificate, "temporal.tls_certificate"),
        client_private_key=_content(files.key, "temporal.tls_key"),
    )


def _content(path: Path | None, setting: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{setting} {path.name!r} cannot be read: {error.strerror}"
        raise PermanentError("invalid_config", message) from error
