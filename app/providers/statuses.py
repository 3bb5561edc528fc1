"""How the configured instances and databases are doing: `app.ports.provider_status.ProviderStatuses`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.ports.provider_status import Operation, ProviderStatus
from app.providers.guard import NO_BOUNDS, Guard
from app.providers.instances import Instance

VECTOR_OPERATIONS: Final[tuple[Operation, ...]] = ("search", "upsert", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedDatabase:
    """A vector database. `guard` None: nothing stands before it."""

    name: str
    vendor: str
    hybrid: bool = False
    """Whether it searches by words beside the vector."""
    guard: Guard | None = None


class Statuses:
    """Of everything of one process."""

    def __init__(self, instances: Sequence[Instance], databases: Sequence[WatchedDatabase]) -> None:
        self._instances = sorted(instances, key=lambda it: it.name)
        self._databases = sorted(databases, key=lambda it: it.name)

    def models(self) -> Sequence[ProviderStatus]:
        """See `ProviderStatuses`."""
        return [_status(it.name, it.vendor, _operations(it), it.guard) for it in self._instances]

    def databases(self) -> Sequence[ProviderStatus]:
        """See `ProviderStatuses`."""
        return [
            _status(it.name, it.vendor, (*VECTOR_OPERATIONS, *(("hybrid",) if it.hybrid else ())), it.guard)
            for it in self._databases
        ]


def _operations(instance: Instance) -> tuple[Operation, ...]:
    offered: tuple[tuple[Operation, object], ...] = (
        ("chat", instance.chat),
        ("embed", instance.embedder),
        ("rerank", instance.reranker),
    )
    return tuple(operation for operation, adapter in offered if adapter is not None)


def _status(name: str, vendor: str, operations: tuple[Operation, ...], guard: Guard | None) -> ProviderStatus:
    return ProviderStatus(
        name=name,
        vendor=vendor,
        operations=operations,
        bounds=NO_BOUNDS if guard is None else guard.bounds,
        calls=[] if guard is None else guard.status(),
    )
