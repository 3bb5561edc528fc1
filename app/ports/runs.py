"""The journal and the stores around it, as services and engines need them.

Every write is durable when its awaitable returns, and joins whatever else waits to be written (group
commit). A write that raises stored nothing. `StoreUnavailable` is raised by any of them when the store
cannot take writes; reads go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

RunStatus = Literal[
    "pending",
    "running",
    "waiting",
    "paused",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
]
TERMINAL_STATUSES: frozenset[str] = frozenset({"completed", "failed", "cancelled", "timed_out"})


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """One event as stored. `payload` is a JSON object, `at` seconds since the epoch (UTC)."""

    run_id: str
    seq: int
    type: str
    payload: bytes
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run for listing. Changes only when the run's status does. Times are epoch seconds."""

    id: str
    tenant: str
    workflow: str
    version: str
    status: RunStatus
    definition_hash: str
    priority: int
    labels: Mapping[str, str]
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    parent_run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """An update of the `runs` row that goes out in the same transaction as the events behind it."""

    status: RunStatus
    started_at: float | None = None
    """Set when not None."""
    finished_at: float | None = None
    """Set when not None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """An immutable workflow document by content: `hash` is the SHA-256 (hex) of `document`."""

    hash: str
    document: bytes
    """Canonical JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyRecord:
    """The first answer given under a key; unique by (tenant, key). Times are epoch seconds."""

    tenant: str
    key: str
    fingerprint: str
    """SHA-256 (hex) of method, path and body."""
    status_code: int
    headers: Mapping[str, str]
    body: bytes
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRow:
    """A registered version. `revision` counts the versions of a name from 1, in order of registration."""

    tenant: str
    name: str
    version: str
    revision: int
    definition_hash: str
    description: str | None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list; every field that is set must hold. Times are epoch seconds."""

    statuses: frozenset[str] = frozenset()
    workflow: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_after: float | None = None
    created_before: float | None = None


class Journal(Protocol):
    """The append-only events of runs: the only truth about them."""

    async def append(self, rows: Sequence[JournalRow], change: StatusChange | None = None) -> None:
        """Append events of one run, seq gap-free after the last stored one.

        Raises `Fenced` when the first seq is taken or would leave a gap.
        """
        ...

    async def read(self, run_id: str, *, after: int = 0, limit: int | None = None) -> Sequence[JournalRow]:
        """Events with seq > after, in order; empty for an unknown run."""
        ...


class RunStore(Protocol):
    """Runs by id and by filter. Every read takes the tenant: another tenant's run does not exist."""

    async def create(
        self,
        run: RunRow,
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
    ) -> None:
        """Store a run, its first events, its definition (once) and the answer given, all or none.

        Raises `AlreadyExists` when the idempotency key or the id is taken.
        """
        ...

    async def get(self, tenant: str, run_id: str) -> RunRow | None:
        """The run's row."""
        ...

    async def list(
        self, tenant: str, filter: RunFilter, *, limit: int, before: tuple[float, str] | None = None
    ) -> Sequence[RunRow]:
        """Newest first by (created_at, id); `before` is the last row of the page before."""
        ...

    async def unfinished(
        self, *, limit: int, statuses: frozenset[str], exclude: frozenset[str] = frozenset()
    ) -> Sequence[RunRow]:
        """Runs of every tenant in these statuses, by priority (high first), then age (old first)."""
        ...

    async def count(self, statuses: frozenset[str]) -> int:
        """How many runs of all tenants have one of these statuses."""
        ...

    async def active_of_workflow(self, tenant: str, workflow: str) -> int:
        """How many runs of this workflow are not terminal."""
        ...

    async def definition(self, hash: str) -> Definition | None:
        """A stored definition."""
        ...


class WorkflowStore(Protocol):
    """Registered workflows; versions are immutable."""

    async def register(
        self, workflow: WorkflowRow, definition: Definition, idempotency: IdempotencyRecord | None = None
    ) -> WorkflowRow:
        """Store a new version; the store assigns `revision`. Raises `AlreadyExists` when it is taken."""
        ...

    async def get(self, tenant: str, name: str, version: str | None = None) -> WorkflowRow | None:
        """That version, or the one registered last."""
        ...

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[WorkflowRow]:
        """The newest version of each name, by name."""
        ...

    async def versions(
        self, tenant: str, name: str, *, limit: int, before_revision: int | None = None
    ) -> Sequence[WorkflowRow]:
        """All versions of a name, newest first."""
        ...

    async def delete(self, tenant: str, name: str) -> int:
        """Forget every version of a name; returns how many. Runs keep the definitions they started with."""
        ...


class IdempotencyStore(Protocol):
    """First answers, kept for a day."""

    async def find(self, tenant: str, key: str) -> IdempotencyRecord | None:
        """The record under a key, unless it has expired."""
        ...

    async def save(self, record: IdempotencyRecord) -> None:
        """Keep an answer that no other write carries. Raises `AlreadyExists` when the key is taken."""
        ...

    async def prune(self, older_than: float) -> int:
        """Delete records created before that time (epoch seconds); returns how many."""
        ...


class Store(Protocol):
    """One database: the four views of it share its transactions."""

    journal: Journal
    runs: RunStore
    workflows: WorkflowStore
    idempotency: IdempotencyStore

    async def open(self) -> None:
        """Create or check the schema and get ready. Raises `StoreError` with what to do."""
        ...

    async def close(self) -> None:
        """Write what waits, then release everything."""
        ...

    async def flush(self) -> None:
        """Return when every write handed in so far is stored or refused, its caller gone or not."""
        ...

    async def check(self) -> None:
        """Raise `StoreUnavailable` if a write would be refused."""
        ...


JsonObject = dict[str, Any]
