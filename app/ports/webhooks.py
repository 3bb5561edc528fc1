"""Webhooks as services need them stored: who is to be told of what, and how far the telling has come.

A delivery is owed from the very moment that its event is durable: the store adds it in the transaction
that changes the status of the run, for every endpoint that wants that event. Its id is made of the run and
of the number of the event, so the same event of a run has the same id for whoever is told of it, always.

Times are epoch seconds. Secrets are held in clear, because signing needs them; no `repr` shows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from app.ports.runs import TERMINAL_STATUSES, IdempotencyRecord, RunRow

WebhookEvent = Literal[
    "run.completed", "run.failed", "run.cancelled", "run.timed_out", "run.waiting", "run.paused"
]
DeliveryStatus = Literal["pending", "delivered", "dead"]
NOTIFIED_STATUSES: Final[frozenset[str]] = TERMINAL_STATUSES | {"waiting", "paused"}
"""Statuses whose beginning is an event: `run.` and the status."""
MOST_ATTEMPTS_KEPT: Final = 20
"""Of one delivery; the latest are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Somewhere to tell of events: of all runs of a tenant, or of the one run it came with."""

    id: str
    tenant: str
    url: str
    target: str
    """Deliveries of one target share its fate: a dead one delays no other."""
    events: tuple[str, ...]
    run_id: str | None = None
    """The run it came with and is bound to."""
    workflow: str | None = None
    """Only runs of the workflow with this name."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Only runs that have all of them."""
    description: str | None = None
    enabled: bool = True
    disabled_reason: str | None = None
    """Why the service itself disabled it."""
    include_outputs: bool = False
    secret: str | None = field(default=None, repr=False)
    """What it is signed with; None: with the secret of the service."""
    old_secret: str | None = field(default=None, repr=False)
    """Signs beside the other one until `old_secret_until`."""
    old_secret_until: float | None = None
    revision: int = 1
    """Counts every write."""
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SendAttempt:
    """One try to deliver. `status_code` is None where there was no answer; `error` None if it was taken."""

    at: float
    seconds: float
    status_code: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one endpoint. `id` is what receivers see as `webhook-id`."""

    endpoint_id: str
    id: str
    tenant: str
    target: str
    run_id: str | None = None
    seq: int | None = None
    """Number of the event in the journal of the run."""
    event: str
    status: DeliveryStatus = "pending"
    tries: int = 0
    """Since it was created, or asked for again."""
    round: int = 0
    """How often it was asked for again."""
    attempts: tuple[SendAttempt, ...] = ()
    """The latest, oldest first."""
    next_attempt_at: float | None = None
    """None when it has ended, and while its endpoint is disabled."""
    created_at: float
    finished_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDelivery:
    """A delivery whose time has come, with all that is needed to send it. `run` None: it is gone."""

    delivery: Delivery
    endpoint: Endpoint
    run: RunRow | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """What a try came to: the delivery as it is now, unless it was asked for again meanwhile, or another
    process has stored what became of as many tries."""

    delivery: Delivery
    disable: str | None = None
    """Why its endpoint is to be disabled."""


class WebhookStore(Protocol):
    """Endpoints by id, deliveries by endpoint, by run, and by when they are due."""

    async def create(
        self, endpoint: Endpoint, idempotency: IdempotencyRecord | None = None, *, most: int | None = None
    ) -> bool:
        """Store an endpoint and the answer given, both or none; False where its tenant has `most` already.

        Those that are bound to a run are not counted. Raises `AlreadyExists` when the id or the idempotency
        key is taken.
        """
        ...

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """That endpoint, bound to a run or not; another tenant's does not exist."""
        ...

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[Endpoint]:
        """Endpoints that are bound to no run, by id; `after` is the last id of the page before."""
        ...

    async def update(
        self, endpoint: Endpoint, *, now: float, idempotency: IdempotencyRecord | None = None
    ) -> bool:
        """Replace the row of the revision before; False where the stored one is not of that.

        Deliveries of a disabled endpoint wait, and are due `now` when it is enabled again. Raises
        `AlreadyExists` when the idempotency key is taken.
        """
        ...

    async def delete(self, tenant: str, endpoint_id: str) -> bool:
        """Forget an endpoint and its deliveries; False where there is none such."""
        ...

    async def add(self, delivery: Delivery, idempotency: IdempotencyRecord | None = None) -> None:
        """Owe a delivery that belongs to no run. Raises `AlreadyExists` as `create` does."""
        ...

    async def delivery(self, tenant: str, endpoint_id: str, delivery_id: str) -> Delivery | None:
        """That delivery."""
        ...

    async def deliveries(
        self,
        tenant: str,
        *,
        endpoint_id: str | None = None,
        run_id: str | None = None,
        status: str | None = None,
        limit: int,
        before: tuple[float, str, str] | None = None,
    ) -> Sequence[Delivery]:
        """Of one endpoint or of one run, newest first by (created_at, endpoint_id, id).

        `before` is the last one of the page before.
        """
        ...

    async def redeliver(
        self,
        tenant: str,
        endpoint_id: str,
        delivery_id: str,
        *,
        now: float,
        idempotency: IdempotencyRecord | None = None,
    ) -> bool:
        """Begin anew, now; False where there is none such. Raises `AlreadyExists` as `create` does."""
        ...

    async def due(
        self, now: float, *, limit: int, per_target: int, exclude: frozenset[str] = frozenset()
    ) -> Sequence[DueDelivery]:
        """Pending deliveries of every tenant whose time has come, at most `per_target` of each target.

        First the one of each target that is due longest, then the next ones, so that a target with a long
        queue is asked for as often as any other; it costs no more either. Those of the targets in `exclude`
        and of disabled endpoints are left out.
        """
        ...

    async def record(self, outcomes: Sequence[DeliveryOutcome], *, now: float) -> None:
        """Store what became of many tries at once."""
        ...

    async def pending(self) -> int:
        """How many deliveries of all tenants have not ended."""
        ...

    async def prune(self, older_than: float, *, limit: int) -> int:
        """Forget deliveries that ended before then, and endpoints of ended runs that nothing needs.

        At most `limit` of each; returns how many there were.
        """
        ...


def delivery_id_of(run_id: str, seq: int) -> str:
    """The id of the deliveries of an event; the SQL of the stores says the same."""
    return f"msg_{run_id}_{seq}"
