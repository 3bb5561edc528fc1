"""The log of deliveries: what was sent of a webhook, and who was told of a run."""

from __future__ import annotations

from app.ports.runs import Store
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.errors import RunNotFound
from app.services.principal import Principal
from app.services.webhook_errors import WebhookNotFound
from app.services.webhook_views import DeliveryPage


class DeliveryLog:
    """Deliveries of all tenants, each seen by its own only. `status` None: of every status."""

    def __init__(self, store: Store) -> None:
        self._runs = store.runs
        self._webhooks = store.webhooks

    async def of_webhook(
        self, principal: Principal, webhook_id: str, *, status: str | None, limit: int, cursor: str | None
    ) -> DeliveryPage:
        """A page of the log of a webhook. Raises `WebhookNotFound`, `InvalidCursor`."""
        if await self._webhooks.get(principal.tenant, webhook_id) is None:
            raise WebhookNotFound(webhook_id)
        return await self._page(
            principal, status=status, limit=limit, cursor=cursor, endpoint_id=webhook_id, run_id=None
        )

    async def of_run(
        self, principal: Principal, run_id: str, *, status: str | None, limit: int, cursor: str | None
    ) -> DeliveryPage:
        """A page of who was told of a run. Raises `RunNotFound`, `InvalidCursor`."""
        if await self._runs.get(principal.tenant, run_id) is None:
            raise RunNotFound(run_id)
        return await self._page(
            principal, status=status, limit=limit, cursor=cursor, endpoint_id=None, run_id=run_id
        )

    async def _page(
        self,
        principal: Principal,
        *,
        status: str | None,
        limit: int,
        cursor: str | None,
        endpoint_id: str | None,
        run_id: str | None,
    ) -> DeliveryPage:
        mark = fingerprint("deliveries", principal.tenant, endpoint_id, run_id, status)
        before = None
        if cursor is not None:
            created_at, endpoint, delivery = read_cursor(cursor, mark, (float, str, str))
            before = (created_at, endpoint, delivery)
        rows = await self._webhooks.deliveries(
            principal.tenant,
            endpoint_id=endpoint_id,
            run_id=run_id,
            status=status,
            limit=limit + 1,
            before=before,
        )
        shown = list(rows[:limit])
        next_cursor = None
        if len(rows) > limit:
            last = shown[-1]
            next_cursor = write_cursor(mark, (float(last.created_at), last.endpoint_id, last.id))
        return DeliveryPage(items=shown, next_cursor=next_cursor)
