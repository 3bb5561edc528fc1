"""Use cases around webhooks: register, read, change, rotate, delete, test, redeliver.

Every one takes the principal first and reads in that principal's tenant only. What sends is the dispatcher
(`webhook_delivery`), what makes a delivery owed is the store, what was sent is in `webhook_log`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import uuid_utils

from app.ports.clock import Clock
from app.ports.runs import Store
from app.ports.webhooks import Delivery, Endpoint
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.idempotency import Answer, Idempotency, IdempotencyKey, Record, Write
from app.services.principal import Principal
from app.services.webhook_errors import (
    DeliveryNotFound,
    TooManyWebhooks,
    WebhookBusy,
    WebhookDisabled,
    WebhookNotFound,
    WebhookOfRun,
)
from app.services.webhook_payloads import TEST_EVENT
from app.services.webhook_rules import WebhookRequest, WebhookRules, target_of
from app.services.webhook_signing import new_secret
from app.services.webhook_views import WebhookPage, WebhookView, webhook_view

MOST_WEBHOOKS: Final = 100
"""Of one tenant: every event of a run is held against all of them."""
MOST_TRIES: Final = 5
"""Of a change that meets another one."""

Receipt = Callable[[WebhookView], Answer]
DeliveryReceipt = Callable[[Delivery], Answer]


class WebhookService:
    """Webhooks of all tenants. `changed` is called when the dispatcher should look anew."""

    def __init__(
        self,
        *,
        store: Store,
        rules: WebhookRules,
        clock: Clock,
        idempotency: Idempotency,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._webhooks = store.webhooks
        self._rules = rules
        self._clock = clock
        self._idempotency = idempotency
        self._changed = changed

    # --- write ----------------------------------------------------------------------------------------

    async def create(
        self,
        principal: Principal,
        request: WebhookRequest,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Register a webhook; the answer, and whether it was given before.

        The secret is in the first answer only: what is kept for a repetition says that it was shown.
        Raises `WebhookRejected`, `TooManyWebhooks`, `IdempotencyKeyReused`, `IdempotencyKeyInUse`,
        `StoreUnavailable`.
        """

        async def write(record: Record) -> Answer:
            endpoint = self._rules.registered(principal.tenant, request, self._now())
            now = endpoint.created_at
            kept = record(receipt(webhook_view(endpoint, now=now, reveal="before")))
            if not await self._webhooks.create(endpoint, kept, most=MOST_WEBHOOKS):
                raise TooManyWebhooks(
                    f"there are {MOST_WEBHOOKS} webhooks already; delete one, or let one serve more events"
                )
            return receipt(webhook_view(endpoint, now=now, reveal="now"))

        return await self._idempotency.with_write(principal.tenant, key, write)

    async def change(self, principal: Principal, webhook_id: str, changes: Mapping[str, Any]) -> WebhookView:
        """Set some fields of `WebhookRequest`. What was held while it was disabled is sent when enabled.

        Raises `WebhookNotFound`, `WebhookOfRun`, `WebhookRejected`, `WebhookBusy`, `StoreUnavailable`.
        """
        if "url" in changes:
            self._rules.check_url(changes["url"])
        for _ in range(MOST_TRIES):
            row = await self._registered(principal, webhook_id)
            now = self._now()
            changed = replace(row, **changes, revision=row.revision + 1, updated_at=now)
            changed = replace(
                changed,
                target=target_of(principal.tenant, changed.url),
                disabled_reason=None if changed.enabled else row.disabled_reason,
            )
            if await self._webhooks.update(changed, now=now):
                self._changed()
                return webhook_view(changed, now=now)
        raise _busy(webhook_id)

    async def rotate(
        self,
        principal: Principal,
        webhook_id: str,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
        *,
        keep_old_seconds: float,
    ) -> tuple[Answer, bool]:
        """Make a new secret; the one before signs as well for that long, any other no more. As `create`."""

        async def write(record: Record) -> Answer:
            for _ in range(MOST_TRIES):
                row = await self._registered(principal, webhook_id)
                now = self._now()
                rotated = replace(
                    row,
                    secret=new_secret(),
                    old_secret=row.secret if keep_old_seconds else None,
                    old_secret_until=now + keep_old_seconds if keep_old_seconds else None,
                    revision=row.revision + 1,
                    updated_at=now,
                )
                kept = record(receipt(webhook_view(rotated, now=now, reveal="before")))
                if await self._webhooks.update(rotated, now=now, idempotency=kept):
                    return receipt(webhook_view(rotated, now=now, reveal="now"))
            raise _busy(webhook_id)

        return await self._idempotency.with_write(principal.tenant, key, write)

    async def delete(self, principal: Principal, webhook_id: str) -> None:
        """Forget a webhook and its log; nothing more is sent to it. Raises `WebhookNotFound`."""
        if not await self._webhooks.delete(principal.tenant, webhook_id):
            raise WebhookNotFound(webhook_id)

    # --- deliveries -----------------------------------------------------------------------------------

    async def test(
        self,
        principal: Principal,
        webhook_id: str,
        receipt: DeliveryReceipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Owe a delivery that only tries the webhook out. Raises as `redeliver`."""

        async def write(record: Record) -> Answer:
            endpoint = await self._sendable(principal, webhook_id)
            now = self._now()
            delivery = Delivery(
                endpoint_id=endpoint.id,
                id=f"msg_{uuid_utils.uuid7()}",
                tenant=principal.tenant,
                target=endpoint.target,
                event=TEST_EVENT,
                next_attempt_at=now,
                created_at=now,
            )
            answer = receipt(delivery)
            await self._webhooks.add(delivery, record(answer))
            return answer

        return await self._sent(principal, key, write)

    async def redeliver(
        self,
        principal: Principal,
        webhook_id: str,
        delivery_id: str,
        receipt: DeliveryReceipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Send a delivery again, under its id, whatever became of it.

        Raises `WebhookNotFound`, `DeliveryNotFound`, `WebhookDisabled`, `IdempotencyKeyReused`,
        `IdempotencyKeyInUse`, `StoreUnavailable`.
        """

        async def write(record: Record) -> Answer:
            await self._sendable(principal, webhook_id)
            found = await self._webhooks.delivery(principal.tenant, webhook_id, delivery_id)
            now = self._now()
            if found is not None:
                again = replace(found, status="pending", tries=0, next_attempt_at=now, finished_at=None)
                answer = receipt(again)
                if await self._webhooks.redeliver(
                    principal.tenant, webhook_id, delivery_id, now=now, idempotency=record(answer)
                ):
                    return answer
            raise DeliveryNotFound(webhook_id, delivery_id)

        return await self._sent(principal, key, write)

    # --- read -----------------------------------------------------------------------------------------

    async def get(self, principal: Principal, webhook_id: str) -> WebhookView:
        """That webhook, registered or of a run. Raises `WebhookNotFound`."""
        return webhook_view(await self._row(principal, webhook_id), now=self._now())

    async def list(self, principal: Principal, *, limit: int, cursor: str | None) -> WebhookPage:
        """A page of the registered ones, oldest first. Raises `InvalidCursor`."""
        mark = fingerprint("webhooks", principal.tenant)
        after = read_cursor(cursor, mark, (str,))[0] if cursor is not None else None
        rows = await self._webhooks.list(principal.tenant, limit=limit + 1, after=after)
        shown, now = rows[:limit], self._now()
        next_cursor = write_cursor(mark, (shown[-1].id,)) if len(rows) > limit else None
        return WebhookPage(items=[webhook_view(row, now=now) for row in shown], next_cursor=next_cursor)

    # --- parts ----------------------------------------------------------------------------------------

    async def _sent(
        self,
        principal: Principal,
        key: IdempotencyKey | None,
        write: Write,
    ) -> tuple[Answer, bool]:
        answer, replayed = await self._idempotency.with_write(principal.tenant, key, write)
        self._changed()
        return answer, replayed

    async def _row(self, principal: Principal, webhook_id: str) -> Endpoint:
        row = await self._webhooks.get(principal.tenant, webhook_id)
        if row is None:
            raise WebhookNotFound(webhook_id)
        return row

    async def _registered(self, principal: Principal, webhook_id: str) -> Endpoint:
        row = await self._row(principal, webhook_id)
        if row.run_id is not None:
            raise WebhookOfRun(webhook_id)
        return row

    async def _sendable(self, principal: Principal, webhook_id: str) -> Endpoint:
        row = await self._row(principal, webhook_id)
        if not row.enabled:
            raise WebhookDisabled(webhook_id)
        return row

    def _now(self) -> float:
        """As callers see it: microseconds."""
        return round(self._clock.now(), 6)


def _busy(webhook_id: str) -> WebhookBusy:
    return WebhookBusy(f"webhook {webhook_id!r} was changed by others meanwhile; send it again")
