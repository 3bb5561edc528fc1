"""Webhooks in the SQL stores.

Deliveries of runs are owed by the group commit itself (`webhook_owe`); here is everything else.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from heapq import nsmallest
from typing import Any, Final

import orjson

from app.ports.errors import AlreadyExists
from app.ports.runs import IdempotencyRecord
from app.ports.webhooks import Delivery, DeliveryOutcome, DueDelivery, Endpoint
from app.stores.sql.connections import Connection, Readers, Statements
from app.stores.sql.rows import Row
from app.stores.sql.views import insert, keep_answer
from app.stores.sql.webhook_rows import (
    attempts_text,
    delivery_from,
    delivery_row,
    due_from,
    endpoint_from,
    endpoint_parameters,
    endpoint_row,
)
from app.stores.sql.writer import Writer

NEWEST: Final = (math.inf, "", "")


class SqlWebhooks:
    """`app.ports.webhooks.WebhookStore`."""

    def __init__(self, readers: Readers, writer: Writer, sql: Statements, *, keep_idempotency: float) -> None:
        self._readers = readers
        self._writer = writer
        self._sql = sql
        self._keep = keep_idempotency

    # --- endpoints ------------------------------------------------------------------------------------

    async def create(
        self, endpoint: Endpoint, idempotency: IdempotencyRecord | None = None, *, most: int | None = None
    ) -> bool:
        row = endpoint_row(endpoint)
        key = {"this_id": endpoint.id, "this_tenant": endpoint.tenant}

        def store(connection: Connection) -> bool:
            if most is not None:
                of_tenant = {"tenant": endpoint.tenant}
                if connection.execute(self._sql["webhook_count"], of_tenant).fetchone()[0] >= most:
                    return False
            self._keep_answer(connection, idempotency)
            if connection.execute(self._sql["webhook_get"], key).fetchone():
                raise AlreadyExists(f"webhook {endpoint.id!r} exists already: give a new one a new id")
            insert(connection, self._sql, "insert_webhook_endpoints", row)
            return True

        return await self._writer.run(store)

    async def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        key = {"this_id": endpoint_id, "this_tenant": tenant}
        row = await self._readers.row(self._sql["webhook_get"], key)
        return None if row is None else endpoint_from(row)

    async def list(self, tenant: str, *, limit: int, after: str | None = None) -> Sequence[Endpoint]:
        parameters = {"tenant": tenant, "after": after or "", "limit": limit}
        rows = await self._readers.rows(self._sql["webhook_list"], parameters)
        return [endpoint_from(row) for row in rows]

    async def update(
        self, endpoint: Endpoint, *, now: float, idempotency: IdempotencyRecord | None = None
    ) -> bool:
        parameters = endpoint_parameters(endpoint)
        parameters |= {"this_id": endpoint.id, "this_tenant": endpoint.tenant}

        def store(connection: Connection) -> bool:
            if connection.execute(self._sql["webhook_update"], parameters).rowcount != 1:
                return False
            self._keep_answer(connection, idempotency)
            held = {"endpoint_id": endpoint.id}
            if endpoint.enabled:
                connection.execute(self._sql["webhook_release"], held | {"now": now})
            else:
                connection.execute(self._sql["webhook_hold"], held)
            return True

        return await self._writer.run(store)

    async def delete(self, tenant: str, endpoint_id: str) -> bool:
        this = {"this_id": endpoint_id, "this_tenant": tenant}
        its = {"endpoint_id": endpoint_id, "tenant": tenant}

        def store(connection: Connection) -> bool:
            connection.execute(self._sql["webhook_delete_deliveries"], its)
            return connection.execute(self._sql["webhook_delete"], this).rowcount == 1

        return await self._writer.run(store)

    # --- deliveries -----------------------------------------------------------------------------------

    async def add(self, delivery: Delivery, idempotency: IdempotencyRecord | None = None) -> None:
        row = delivery_row(delivery)

        def store(connection: Connection) -> None:
            self._keep_answer(connection, idempotency)
            if connection.execute(self._sql["webhook_delivery"], _key(delivery)).fetchone():
                raise AlreadyExists(f"delivery {delivery.id!r} exists already: give a new one a new id")
            insert(connection, self._sql, "insert_webhook_deliveries", row)

        await self._writer.run(store)

    async def delivery(self, tenant: str, endpoint_id: str, delivery_id: str) -> Delivery | None:
        key = {"this_endpoint": endpoint_id, "this_id": delivery_id, "tenant": tenant}
        row = await self._readers.row(self._sql["webhook_delivery"], key)
        return None if row is None else delivery_from(row)

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
        before_time, before_endpoint, before_id = before or NEWEST
        parameters = {
            "owner": run_id if endpoint_id is None else endpoint_id,
            "tenant": tenant,
            "status": status,
            "before_time": before_time,
            "before_endpoint": before_endpoint,
            "before_id": before_id,
            "limit": limit,
        }
        name = "webhook_deliveries_run" if endpoint_id is None else "webhook_deliveries"
        return [delivery_from(row) for row in await self._readers.rows(self._sql[name], parameters)]

    async def redeliver(
        self,
        tenant: str,
        endpoint_id: str,
        delivery_id: str,
        *,
        now: float,
        idempotency: IdempotencyRecord | None = None,
    ) -> bool:
        parameters = {"this_endpoint": endpoint_id, "this_id": delivery_id, "tenant": tenant, "now": now}

        def store(connection: Connection) -> bool:
            if connection.execute(self._sql["webhook_redeliver"], parameters).rowcount != 1:
                return False
            self._keep_answer(connection, idempotency)
            return True

        return await self._writer.run(store)

    async def due(
        self, now: float, *, limit: int, per_target: int, exclude: frozenset[str] = frozenset()
    ) -> Sequence[DueDelivery]:
        others = {"now": now, "exclude": orjson.dumps(sorted(exclude)).decode()}
        waiting, one = self._sql["webhooks_due"], self._sql["webhook_to_send"]

        def query(connection: Connection) -> builtins.list[Row]:
            connection.execute("BEGIN")
            found: builtins.list[tuple[int, float, str, str]] = []
            targets = connection.execute(self._sql["webhook_targets"], others).fetchall()
            for _, target in nsmallest(limit, targets):
                first = {"now": now, "target": target, "limit": per_target}
                rows = connection.execute(waiting, first).fetchall()
                found += [(rank, *row) for rank, row in enumerate(rows)]
            keys = [{"this_endpoint": owner, "this_id": name} for *_, owner, name in sorted(found)[:limit]]
            sendable = [connection.execute(one, key).fetchone() for key in keys]
            connection.commit()
            return [row for row in sendable if row is not None]

        return [due_from(row) for row in await self._readers.run(query)]

    async def record(self, outcomes: Sequence[DeliveryOutcome], *, now: float) -> None:
        rows = [_outcome(outcome.delivery) for outcome in outcomes]
        disabled = {it.delivery.endpoint_id: it.disable for it in outcomes if it.disable is not None}

        def store(connection: Connection) -> None:
            for endpoint_id, reason in disabled.items():
                this = {"this_id": endpoint_id, "reason": reason, "now": now}
                if connection.execute(self._sql["webhook_disable"], this).rowcount:
                    connection.execute(self._sql["webhook_hold"], {"endpoint_id": endpoint_id})
            for row in rows:
                connection.execute(self._sql["webhook_record"], row)

        await self._writer.run(store)

    async def pending(self) -> int:
        row = await self._readers.row(self._sql["webhooks_pending"], {})
        return 0 if row is None else int(row[0])

    async def prune(self, older_than: float, *, limit: int) -> int:
        parameters = {"older_than": older_than, "limit": limit}

        def store(connection: Connection) -> int:
            names = ("webhook_prune_deliveries", "webhook_prune_endpoints")
            return sum(connection.execute(self._sql[name], parameters).rowcount for name in names)

        return await self._writer.run(store)

    def _keep_answer(self, connection: Connection, record: IdempotencyRecord | None) -> None:
        if record is not None:
            keep_answer(connection, self._sql, record, self._keep)


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"this_endpoint": delivery.endpoint_id, "this_id": delivery.id, "tenant": delivery.tenant}


def _outcome(delivery: Delivery) -> dict[str, Any]:
    return {
        "this_endpoint": delivery.endpoint_id,
        "this_id": delivery.id,
        "this_round": delivery.round,
        "this_try": delivery.tries,
        "status": delivery.status,
        "tries": delivery.tries,
        "attempts": attempts_text(delivery.attempts, delivery.id),
        "next_attempt_at": delivery.next_attempt_at,
        "finished_at": delivery.finished_at,
    }
