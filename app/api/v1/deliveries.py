"""Deliveries of webhooks over HTTP: the log of a webhook and of a run, redelivery, and a test."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanReadWebhooks, CanWriteWebhooks
from app.api.bodies import StrictRoute
from app.api.responses import REPLAYED, answer_response, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import webhook_examples as examples
from app.api.v1.parameters import Cursor, DeliveryId, Limit, RunId, WebhookId
from app.api.v1.rendering import JSON
from app.api.v1.runs import next_link
from app.api.v1.schemas.webhooks import Delivery, DeliveryList
from app.api.v1.webhook_rendering import deliveries_path, render_deliveries, render_delivery
from app.ports.webhooks import Delivery as StoredDelivery
from app.ports.webhooks import DeliveryStatus
from app.services.idempotency import Answer
from app.services.webhook_views import DeliveryPage

_ONE: Final = "/v1/webhooks/{webhook_id}"
Status = Annotated[
    DeliveryStatus | None,
    Query(description="`dead` are those that were given up"),
]


def deliveries_router() -> APIRouter:
    """The routes of deliveries."""
    router = APIRouter(route_class=StrictRoute, tags=["webhooks"])
    listing: dict[str, Any] = {
        "response_class": Response,
        "responses": {
            200: success("A page", DeliveryList, examples.DELIVERY_LIST, headers=("Link",)),
            **problems(400, 403, 404, 422),
        },
    }
    sending: dict[str, Any] = {
        "status_code": 202,
        "response_class": Response,
        "responses": {
            202: success(
                "It will be sent at once", Delivery, examples.DELIVERY, headers=("Location", REPLAYED)
            ),
            **problems(403, 404, 409, 422, 503),
        },
    }
    router.get(
        f"{_ONE}/deliveries",
        operation_id="list_webhook_deliveries",
        summary="What was sent, newest first",
        **listing,
    )(_list_webhook_deliveries)
    router.get(
        "/v1/runs/{run_id}/deliveries",
        operation_id="list_run_deliveries",
        summary="Who was told of a run",
        **listing,
    )(_list_run_deliveries)
    router.post(
        f"{_ONE}/deliveries/{{delivery_id}}/redeliver",
        operation_id="redeliver_webhook",
        summary="Send a delivery again",
        **sending,
    )(_redeliver_webhook)
    router.post(f"{_ONE}/test", operation_id="test_webhook", summary="Try a webhook out", **sending)(
        _test_webhook
    )
    return router


async def _list_webhook_deliveries(
    *,
    request: Request,
    services: Services,
    principal: CanReadWebhooks,
    webhook_id: WebhookId,
    status: Status = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Each with its latest attempts. What ended is kept for a while (`webhooks.keep_days`)."""
    page = await services.deliveries.of_webhook(
        principal, webhook_id, status=status, limit=limit, cursor=cursor
    )
    return _page(request, page)


async def _list_run_deliveries(
    *,
    request: Request,
    services: Services,
    principal: CanReadWebhooks,
    run_id: RunId,
    status: Status = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Of registered webhooks, and of the one that the run brought along."""
    page = await services.deliveries.of_run(principal, run_id, status=status, limit=limit, cursor=cursor)
    return _page(request, page)


def _page(request: Request, page: DeliveryPage) -> Response:
    headers = next_link(request, page.next_cursor)
    return Response(render_deliveries(page.items, page.next_cursor), headers=headers, media_type=JSON)


async def _redeliver_webhook(
    *,
    request: Request,
    services: Services,
    principal: CanWriteWebhooks,
    webhook_id: WebhookId,
    delivery_id: DeliveryId,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Under the same `webhook-id`, whatever became of it, with as many attempts as a new one."""
    key = await idempotency_of(request, idempotency_key)
    answer, replayed = await services.webhooks.redeliver(principal, webhook_id, delivery_id, _sent, key)
    return answer_response(answer, replayed=replayed, media_type=JSON)


async def _test_webhook(
    *,
    request: Request,
    services: Services,
    principal: CanWriteWebhooks,
    webhook_id: WebhookId,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Sends an event of type `webhook.test`, signed and retried like any other."""
    key = await idempotency_of(request, idempotency_key)
    answer, replayed = await services.webhooks.test(principal, webhook_id, _sent, key)
    return answer_response(answer, replayed=replayed, media_type=JSON)


def _sent(delivery: StoredDelivery) -> Answer:
    headers = {"Location": deliveries_path(delivery.endpoint_id)}
    return Answer(status_code=202, body=render_delivery(delivery), headers=headers)
