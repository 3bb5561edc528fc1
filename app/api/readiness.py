"""What must hold for this process to get traffic: store, executor, queue, memory.

Another check is one more function and one more line in `readiness_checks`.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

from app.api.services import NotReady, ReadinessCheck
from app.engines.engine import Engine
from app.ports.errors import StoreUnavailable
from app.ports.runs import Store

QUEUE_SHARE = 0.95
"""Share of the queue's bound past which a process wants no more traffic."""


def readiness_checks(
    store: Store, engine: Engine, *, max_memory_bytes: int | None
) -> Sequence[ReadinessCheck]:
    """The checks of a service; `max_memory_bytes` None leaves memory to the platform."""

    async def takes_writes() -> str | None:
        try:
            await store.check()
        except StoreUnavailable as error:
            raise NotReady(str(error)) from error
        return None

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

    async def has_memory() -> str | None:
        used = resident_bytes()
        if max_memory_bytes is not None and used > max_memory_bytes:
            raise NotReady(f"{used >> 20} MiB are in use, more than the {max_memory_bytes >> 20} MiB allowed")
        return f"{used >> 20} MiB"

    return (
        ReadinessCheck(name="store", check=takes_writes),
        ReadinessCheck(name="executor", check=has_a_role),
        ReadinessCheck(name="queue", check=has_room),
        ReadinessCheck(name="memory", check=has_memory),
    )


def resident_bytes() -> int:
    """Resident memory of this process; its peak where the platform tells nothing else."""
    try:
        with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123  read on every probe: no Path objects
            return int(statm.read().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
