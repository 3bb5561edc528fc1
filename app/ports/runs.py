"""The journal and the stores around it, as services and engines need them.

Every write is durable when its awaitable returns, and joins whatever else waits to be written (group
commit). A write that raises stored nothing. `StoreUnavailable` is raised by any of them when the store
cannot take writes; reads go on.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from app.ports.records import record

if TYPE_CHECKING:
    from app.ports.inbox import Inbox
    from app.ports.index_contracts import IndexContracts
    from app.ports.schedules import ScheduleStore
    from app.ports.webhooks import Endpoint, WebhookStore

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
ApprovalStatus = Literal["pending", "answered", "expired", "cancelled"]
APPROVAL_STATUSES: frozenset[str] = frozenset({"pending", "answered", "expired", "cancelled"})
TERMINAL_STATUSES: frozenset[str] = frozenset({"completed", "failed", "cancelled", "timed_out"})


@record
class JournalRow:
    """One event as stored. `payload` is a JSON object, `at` seconds since the epoch (UTC)."""

    run_id: str
    seq: int
    type: str
    payload: bytes
    at: float


@record
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
    """The run that it repeats, or whose `workflow` step called it."""
    concurrency_key: str | None = None
    """What it shares its workflow's concurrency limit with."""


@record
class StatusChange:
    """An update of the `runs` row that goes out in the same transaction as the events behind it."""

    status: RunStatus
    started_at: float | None = None
    """Set when not None."""
    finished_at: float | None = None
    """Set when not None."""
    wake_at: float | None = None
    """When a run that waits wants to be taken up again; None: only when something happens. Always set."""
    wakes: str | None = None
    """Another run that waits for this one's end: its `wake_at` becomes 0 if it is `waiting`, or if it is
    `cancelling` and has a `wake_at` (one that is under way has none; infinity stands for no time)."""
    approvals: Sequence[ApprovalRow] = ()
    """Approvals as they stand now: inserted, or replaced by id."""


@record
class ApprovalRow:
    """A question to a person. Times are epoch seconds; the answer is in the journal."""

    id: str
    tenant: str
    run_id: str
    path: str
    workflow: str
    message: str
    form: Mapping[str, Any] | None
    """A JSON Schema of the answer's data."""
    created_at: float
    expires_at: float | None
    status: ApprovalStatus = "pending"
    action: str | None = None
    answered_by: str | None = None
    answered_at: float | None = None


@record
class Definition:
    """An immutable workflow document by content: `hash` is the SHA-256 (hex) of `document`."""

    hash: str
    document: bytes
    """Canonical JSON."""


ANSWERS_KEPT_SECONDS: Final = 86_400.0
"""How long the first answer is kept under its idempotency key: a day, then the key is free again."""


@record
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


@record
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


@record
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

    async def read(
        self, run_id: str, *, after: int = 0, limit: int | None = None, max_bytes: int | None = None
    ) -> Sequence[JournalRow]:
        """Events with seq > after, in order; empty for an unknown run.

        At most `limit` of them, and none after that whose payload takes all of them past `max_bytes`.
        """
        ...


class RunStore(Protocol):
    """Runs by id and by filter. Every read takes the tenant: another tenant's run does not exist."""

    async def create(
        self,
        run: RunRow,
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
        *,
        change: StatusChange | None = None,
        webhook: Endpoint | None = None,
    ) -> None:
        """Store a run, its first events, its definition (once) and the answer given, all or none.

        `change` is what else these events come to, for a run that at once waits, asks, or ends. `webhook`
        is an endpoint that is bound to this run.

        Raises `AlreadyExists` when the idempotency key or the id is taken.
        """
        ...

    async def create_many(
        self,
        runs: Sequence[RunRow],
        events: Sequence[JournalRow],
        definition: Definition,
        idempotency: IdempotencyRecord | None = None,
    ) -> None:
        """Store runs of one definition, the first event of each, and the answer given, all or none.

        Raises `AlreadyExists` when the idempotency key or any of the ids is taken.
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

    async def due(self, now: float, *, limit: int) -> Sequence[RunRow]:
        """Runs that are `waiting`, `paused` or `cancelling` with `wake_at` <= now, earliest first, all
        tenants."""
        ...

    async def next_wake(self) -> float | None:
        """The earliest `wake_at`, short of infinity, of a run that `due` would name at that time."""
        ...

    async def wake_parked(self) -> int:
        """Set `wake_at` to 0 for every run that has one that `next_wake` could name; returns how many."""
        ...

    async def wake_callers(self, *, ended_after: float = -math.inf) -> int:
        """Set `wake_at` to 0 for every run that has a child that ended, after that time, where
        `StatusChange.wakes` would; returns how many.

        For a start after a crash, which may have come between a child's end and its caller's parking.
        """
        ...

    async def active_by_concurrency_key(self) -> Mapping[tuple[str, str, str], Sequence[str]]:
        """(tenant, workflow, concurrency key) → ids of the runs of it that were begun and have not ended, in
        the order in which they began.

        Runs without a key are left out, and those that were never begun, whatever their status.
        """
        ...

    async def overtaken(
        self, tenant: str, workflow: str, key: str, *, keep: int, limit: int
    ) -> Sequence[RunRow]:
        """Runs of a concurrency key that have not ended, begun or not, without the `keep` newest of them.

        Newest first by (created_at, id).
        """
        ...

    async def statuses(self, run_ids: Collection[str]) -> Mapping[str, RunStatus]:
        """Run id → status, of any tenant, in one read; a run that there is not is left out."""
        ...

    async def children(self, tenant: str, run_id: str) -> Sequence[RunRow]:
        """Runs whose `parent_run_id` it is, oldest first."""
        ...

    async def prune(self, finished_before: float, *, limit: int) -> int:
        """Delete the oldest runs that ended before that time, with all that belongs to them.

        Returns how many it deleted anything of; 0 when none is left. One small transaction a call: it may
        stop short of the limit, and a run with a large journal takes several calls (nobody sees the rest).
        A run whose parent has not ended stays: its end may not have been heard of. A `parent_run_id` that
        names a deleted run stays as it is. Definitions that nothing names any more go too, now and then.
        """
        ...

    async def active_of_workflow(self, tenant: str, workflow: str) -> int:
        """How many runs of this workflow are not terminal."""
        ...

    async def definition(self, hash: str) -> Definition | None:
        """A stored definition."""
        ...


class ApprovalStore(Protocol):
    """Approvals for listing; written with the events behind them (`StatusChange.approvals`)."""

    async def get(self, tenant: str, approval_id: str) -> ApprovalRow | None:
        """One approval."""
        ...

    async def list(
        self,
        tenant: str,
        *,
        statuses: frozenset[str],
        run_id: str | None = None,
        limit: int,
        after: tuple[float, str] | None = None,
    ) -> Sequence[ApprovalRow]:
        """Oldest first by (created_at, id); `after` is the last row of the page before. No statuses: any."""
        ...


class StepCache(Protocol):
    """Outputs of steps by content, for as long as their authors allow. Losing an entry costs a call."""

    async def find(self, tenant: str, key: str, now: float) -> bytes | None:
        """The value under a key unless it has expired."""
        ...

    async def save(self, tenant: str, key: str, value: bytes, *, expires_at: float) -> None:
        """Keep a value; an earlier one is replaced."""
        ...

    async def prune(self, now: float, *, limit: int) -> int:
        """Delete expired entries; returns how many."""
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
    """One database: the views of it share its transactions."""

    journal: Journal
    runs: RunStore
    workflows: WorkflowStore
    idempotency: IdempotencyStore
    approvals: ApprovalStore
    cache: StepCache
    index_contracts: IndexContracts
    inbox: Inbox
    schedules: ScheduleStore
    webhooks: WebhookStore

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
