"""What must hold for this process to get traffic: store, executor, queue, memory; of a worker: Temporal.

Another check is one more function and one more line in `readiness_checks` or `worker_checks`.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Awaitable, Callable, Sequence

from app.api.services import NotReady, ReadinessCheck
from app.engines.engine import Engine
from app.engines.temporal.outbox import NotPlaced
from app.ports.errors import StoreUnavailable
from app.ports.runs import Store

QUEUE_SHARE = 0.95
"""Share of the queue's bound past which a process wants no more traffic."""


def readiness_checks(
    store: Store, engine: Engine, *, max_memory_bytes: int | None
) -> Sequence[ReadinessCheck]:
    """The checks of a service; `max_memory_bytes` None leaves memory to the platform."""

    async def has_a_role() -> str | None:
        role = engine.stats().role
        if role == "stopped":
            raise NotReady("the engine takes no runs: the process is shutting down, or its log says why")
        return role

    async def has_room() -> str | None:
        stats = engine.stats()
        detail = f"{stats.active} active of {stats.max_active}, {stats.queued} waiting of {stats.max_queued}"
        if stats.max_queued and stats.queued >= stats.max_queued * QUEUE_SHARE:
            raise NotReady(f"the queue is full: {detail}")
        return detail

    return (
        _store_check(store),
        ReadinessCheck(name="executor", check=has_a_role),
        ReadinessCheck(name="queue", check=has_room),
        _memory_check(max_memory_bytes),
    )


def worker_checks(
    store: Store, polled: Callable[[], Awaitable[str]], *, max_memory_bytes: int | None
) -> Sequence[ReadinessCheck]:
    """The checks of a worker. `polled` says what it is asked for runs, or raises `NotPlaced`."""

    async def asks_for_runs() -> str | None:
        try:
            return await polled()
        except NotPlaced as error:
            raise NotReady(str(error)) from error

    return (
        _store_check(store),
        ReadinessCheck(name="temporal", check=asks_for_runs),
        _memory_check(max_memory_bytes),
    )


def _store_check(store: Store) -> ReadinessCheck:
    async def takes_writes() -> str | None:
        try:
            await store.check()
        except StoreUnavailable as error:
            raise NotReady(str(error)) from error
        return None

    return ReadinessCheck(name="store", check=takes_writes)


def _memory_check(max_memory_bytes: int | None) -> ReadinessCheck:
    async def has_memory() -> str | None:
        used = resident_bytes()
        if max_memory_bytes is not None and used > max_memory_bytes:
            raise NotReady(f"{used >> 20} MiB are in use, more than the {max_memory_bytes >> 20} MiB allowed")
        return f"{used >> 20} MiB"

    return ReadinessCheck(name="memory", check=has_memory)


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the platform tells nothing else."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  read on every probe: no Path objects
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
