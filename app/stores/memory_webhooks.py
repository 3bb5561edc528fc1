"""The in-memory twin of the webhook store. It shares the runs and the answers of its `MemoryStore`."""

from __future__ import annotations

import asyncio
import builtins
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from heapq import nlargest

from app.ports.errors import AlreadyExists
from app.ports.runs import TERMINAL_STATUSES, IdempotencyRecord, JournalRow, RunRow
from app.ports.webhooks import (
    NOTIFIED_STATUSES,
    Delivery,
    DeliveryOutcome,
    DueDelivery,
    Endpoint,
    delivery_id_of,
)
from app.stores.memory_data import MemoryData


class MemoryWebhooks:
    """`app.ports.webhooks.WebhookStore`."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data
        self._endpoints: dict[str, Endpoint] = {}
        self._deliveries: dict[tuple[str, str], Delivery] = {}

    # --- what the other views bring -------------------------------------------------------------------

    def bind(self, endpoint: Endpoint | None) -> None:
        """Keep an endpoint that came with a run."""
        if endpoint is not None:
            self._endpoints[endpoint.id] = endpoint

    def status_changed(self, run: RunRow, events: Sequence[JournalRow]) -> None:
        """Owe what somebody wants to be told of."""
        if not events or run.status not in NOTIFIED_STATUSES:
            return
        last, event = events[-1], f"run.{run.status}"
        for endpoint in self._endpoints.values():
            if not _wants(endpoint, run, event):
                continue
            delivery = Delivery(
                endpoint_id=endpoint.id,
                id=delivery_id_of(run.id, last.seq),
                tenant=endpoint.tenant,
                target=endpoint.target,
                run_id=run.id,
                seq=last.seq,
                event=event,
                next_attempt_at=last.at,
                created_at=last.at,
            )
            self._deliveries.setdefault((endpoint.id, delivery.id), delivery)

    # --- endpoints ------------------------------------------------------------------------------------

    async def create(
        self, endpoint: Endpoint, idempotency: IdempotencyRecord | None = None, *, most: int | None = None
    ) -> bool:
        self._data.require_open()
        self._data.require_free(idempotency)
        of_tenant = [it for it in self._endpoints.values() if it.tenant == endpoint.tenant and not it.run_id]
        if most is not None and len(of_tenant) >= most:
            return False
        if endpoint.id in self._endpoints:
            raise AlreadyExists(f"webhook {endpoint.id!r} exists already: give a new one a new id")
        self._endpoints[endpoint.id] = endpoint
        self._data.keep_answer(idempotency)
        await asyncio.sleep(0)
        return True

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        self._data.require_open()
        found = self._endpoints.get(endpoint_id)
        return found if found is not None and found.tenant == tenant else None

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[Endpoint]:
        self._data.require_open()
        found = (it for it in self._endpoints.values() if it.tenant == tenant and it.run_id is None)
        rest = [it for it in found if it.id > (after or "")]
        return sorted(rest, key=lambda it: it.id)[:limit]

    async def update(
        self, endpoint: Endpoint, *, now: float, idempotency: IdempotencyRecord | None = None
    ) -> bool:
        stored = await self.get(endpoint.tenant, endpoint.id)
        if stored is None or stored.revision != endpoint.revision - 1:
            return False
        self._data.require_free(idempotency)
        self._endpoints[endpoint.id] = replace(endpoint, created_at=stored.created_at, run_id=stored.run_id)
        self._hold_or_release(endpoint.id, enabled=endpoint.enabled, now=now)
        self._data.keep_answer(idempotency)
        await asyncio.sleep(0)
        return True

    async def delete(self, tenant: str, endpoint_id: str) -> bool:
        if await self.get(tenant, endpoint_id) is None:
            return False
        del self._endpoints[endpoint_id]
        for key in [key for key in self._deliveries if key[0] == endpoint_id]:
            del self._deliveries[key]
        await asyncio.sleep(0)
        return True

    # --- deliveries -----------------------------------------------------------------------------------

    async def add(self, delivery: Delivery, idempotency: IdempotencyRecord | None = None) -> None:
        self._data.require_open()
        self._data.require_free(idempotency)
        if (delivery.endpoint_id, delivery.id) in self._deliveries:
            raise AlreadyExists(f"delivery {delivery.id!r} exists already: give a new one a new id")
        self._deliveries[delivery.endpoint_id, delivery.id] = delivery
        self._data.keep_answer(idempotency)
        await asyncio.sleep(0)

    async def delivery(self, tenant: str, endpoint_id: str, delivery_id: str) -> Delivery | None:
        self._data.require_open()
        found = self._deliveries.get((endpoint_id, delivery_id))
        return found if found is not None and found.tenant == tenant else None

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
        self._data.require_open()
        found = (
            it
            for it in self._deliveries.values()
            if it.tenant == tenant
            and (it.run_id == run_id if endpoint_id is None else it.endpoint_id == endpoint_id)
            and status in (None, it.status)
        )
        older = (it for it in found if before is None or _place(it) < before)
        return nlargest(limit, older, key=_place)

    async def redeliver(
        self,
        tenant: str,
        endpoint_id: str,
        delivery_id: str,
        *,
        now: float,
        idempotency: IdempotencyRecord | None = None,
    ) -> bool:
        found = await self.delivery(tenant, endpoint_id, delivery_id)
        if found is None:
            return False
        self._data.require_free(idempotency)
        self._deliveries[endpoint_id, delivery_id] = replace(
            found, status="pending", tries=0, round=found.round + 1, next_attempt_at=now, finished_at=None
        )
        self._data.keep_answer(idempotency)
        await asyncio.sleep(0)
        return True

    async def due(
        self, now: float, *, limit: int, per_target: int, exclude: frozenset[str] = frozenset()
    ) -> Sequence[DueDelivery]:
        self._data.require_open()
        found = sorted(
            (it.next_attempt_at, key)
            for key, it in self._deliveries.items()
            if it.status == "pending"
            and it.next_attempt_at is not None
            and it.next_attempt_at <= now
            and it.target not in exclude
            and self._is_enabled(it.endpoint_id)
        )
        ranks: Counter[str] = Counter()
        ranked = []
        for at, key in found:
            target = self._deliveries[key].target
            ranked.append((ranks[target], at, key))
            ranks[target] += 1
        ranked = [it for it in sorted(ranked) if it[0] < per_target]
        return [self._due(self._deliveries[key]) for *_, key in ranked[:limit]]

    async def record(self, outcomes: Sequence[DeliveryOutcome], *, now: float) -> None:
        self._data.require_open()
        for outcome in outcomes:
            endpoint = self._endpoints.get(outcome.delivery.endpoint_id)
            if outcome.disable is not None and endpoint is not None and endpoint.enabled:
                self._disable(endpoint, outcome.disable, now)
        for outcome in outcomes:
            self._record(outcome.delivery)
        await asyncio.sleep(0)

    async def pending(self) -> int:
        self._data.require_open()
        return sum(it.status == "pending" for it in self._deliveries.values())

    async def prune(self, older_than: float, *, limit: int) -> int:
        self._data.require_open()
        ended = [(it.finished_at, key) for key, it in self._deliveries.items() if it.finished_at is not None]
        old = [key for finished_at, key in sorted(ended) if finished_at < older_than][:limit]
        for key in old:
            del self._deliveries[key]
        useless = [it.id for it in self._endpoints.values() if self._is_useless(it, older_than)][:limit]
        for endpoint_id in useless:
            del self._endpoints[endpoint_id]
        await asyncio.sleep(0)
        return len(old) + len(useless)

    def _record(self, delivery: Delivery) -> None:
        key = (delivery.endpoint_id, delivery.id)
        stored = self._deliveries.get(key)
        if stored is None or stored.round != delivery.round:
            return
        if stored.status != "pending" or stored.tries >= delivery.tries:
            return
        at = delivery.next_attempt_at if self._is_enabled(delivery.endpoint_id) else None
        self._deliveries[key] = replace(
            stored,
            status=delivery.status,
            tries=delivery.tries,
            attempts=delivery.attempts,
            next_attempt_at=at,
            finished_at=delivery.finished_at,
        )

    def _disable(self, endpoint: Endpoint, reason: str, now: float) -> None:
        self._endpoints[endpoint.id] = replace(
            endpoint,
            enabled=False,
            disabled_reason=reason,
            revision=endpoint.revision + 1,
            updated_at=now,
        )
        self._hold_or_release(endpoint.id, enabled=False, now=now)

    def _hold_or_release(self, endpoint_id: str, *, enabled: bool, now: float) -> None:
        for key, it in self._deliveries.items():
            if it.endpoint_id != endpoint_id or it.status != "pending":
                continue
            if not enabled:
                self._deliveries[key] = replace(it, next_attempt_at=None)
            elif it.next_attempt_at is None:
                self._deliveries[key] = replace(it, next_attempt_at=now)

    def _is_enabled(self, endpoint_id: str) -> bool:
        endpoint = self._endpoints.get(endpoint_id)
        return endpoint is not None and endpoint.enabled

    def _is_useless(self, endpoint: Endpoint, older_than: float) -> bool:
        if endpoint.run_id is None or endpoint.created_at >= older_than:
            return False
        run = self._data.runs.get(endpoint.run_id)
        owed: builtins.list[str] = [key[0] for key in self._deliveries if key[0] == endpoint.id]
        return not owed and (run is None or run.status in TERMINAL_STATUSES)

    def _due(self, delivery: Delivery) -> DueDelivery:
        run = self._data.runs.get(delivery.run_id or "")
        return DueDelivery(delivery=delivery, endpoint=self._endpoints[delivery.endpoint_id], run=run)


def _wants(endpoint: Endpoint, run: RunRow, event: str) -> bool:
    return (
        endpoint.enabled
        and endpoint.tenant == run.tenant
        and endpoint.run_id in (None, run.id)
        and event in endpoint.events
        and endpoint.workflow in (None, run.workflow)
        and endpoint.labels.items() <= run.labels.items()
    )


def _place(delivery: Delivery) -> tuple[float, str, str]:
    return delivery.created_at, delivery.endpoint_id, delivery.id
