"""Webhooks over HTTP: register, list, read, change, rotate, delete, test."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanReadWebhooks, CanWriteWebhooks
from app.api.bodies import StrictRoute, placed
from app.api.responses import REPLAYED, answer_response, bodyless, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import webhook_examples as examples
from app.api.v1.parameters import Cursor, Limit, WebhookId
from app.api.v1.rendering import JSON
from app.api.v1.runs import next_link
from app.api.v1.schemas.webhooks import (
    DAY_SECONDS,
    Rotation,
    Webhook,
    WebhookChanges,
    WebhookCreated,
    WebhookList,
    WebhookSettings,
    WebhookWithSecret,
)
from app.api.v1.webhook_rendering import render_created, render_webhook, render_webhooks, webhook_path
from app.ports.problems import Problem
from app.services.errors import WorkflowNotFound
from app.services.idempotency import Answer
from app.services.webhook_errors import WebhookRejected
from app.services.webhook_rules import WebhookRequest
from app.services.webhook_views import WebhookView

_ONE: Final = "/v1/webhooks/{webhook_id}"


def webhooks_router() -> APIRouter:
    """The routes of webhooks."""
    router = APIRouter(route_class=StrictRoute, tags=["webhooks"])
    _add_settings(router)
    _add_reading(router)
    return router


def _add_settings(router: APIRouter) -> None:
    router.post(
        "/v1/webhooks",
        operation_id="create_webhook",
        summary="Be told of what happens to runs",
        status_code=201,
        response_class=Response,
        responses={
            201: success(
                "It is registered; the secret is shown this once",
                WebhookCreated,
                examples.WEBHOOK_CREATED,
                headers=("Location", REPLAYED),
            ),
            **problems(400, 403, 409, 413, 415, 422, 503),
        },
    )(_create_webhook)
    router.patch(
        _ONE,
        operation_id="update_webhook",
        summary="Change a webhook",
        response_class=Response,
        responses={
            200: success("As it is now", Webhook, examples.WEBHOOK),
            **problems(400, 403, 404, 409, 413, 415, 422, 503),
        },
    )(_update_webhook)
    router.post(
        f"{_ONE}/rotate",
        operation_id="rotate_webhook_secret",
        summary="Get a new secret",
        response_class=Response,
        responses={
            200: success(
                "The new secret is shown this once",
                WebhookWithSecret,
                examples.WEBHOOK_WITH_SECRET,
                headers=(REPLAYED,),
            ),
            **problems(400, 403, 404, 409, 413, 415, 422, 503),
        },
    )(_rotate_webhook_secret)
    router.delete(
        _ONE,
        operation_id="delete_webhook",
        summary="Forget a webhook",
        status_code=204,
        response_class=Response,
        responses={204: bodyless("It is gone"), **problems(403, 404, 422, 503)},
    )(_delete_webhook)


def _add_reading(router: APIRouter) -> None:
    router.get(
        "/v1/webhooks",
        operation_id="list_webhooks",
        summary="List webhooks, oldest first",
        response_class=Response,
        responses={
            200: success("A page", WebhookList, examples.WEBHOOK_LIST, headers=("Link",)),
            **problems(400, 403, 422),
        },
    )(_list_webhooks)
    router.get(
        _ONE,
        operation_id="get_webhook",
        summary="Read a webhook",
        response_class=Response,
        responses={
            200: success("The webhook", Webhook, examples.WEBHOOK),
            **problems(403, 404, 422),
        },
    )(_get_webhook)


# --- settings -----------------------------------------------------------------------------------------


async def _create_webhook(
    *,
    request: Request,
    services: Services,
    principal: CanWriteWebhooks,
    body: WebhookSettings,
    idempotency_key: KeyHeader = None,
) -> Response:
    """For all runs of the tenant that fit, from now on; a single run can bring its own (`webhook`).

    `warnings` names a workflow that is not registered: it may be misspelt, or come later.
    """
    key = await idempotency_of(request, idempotency_key)
    wanted = WebhookRequest(**_fields(body.model_dump()))
    receipt = partial(_created, await _warnings(request, services, principal, wanted.workflow))
    try:
        answer, replayed = await services.webhooks.create(principal, wanted, receipt, key)
    except WebhookRejected as error:
        raise WebhookRejected(await placed(error.problems, await request.body())) from error
    return answer_response(answer, replayed=replayed, media_type=JSON)


async def _update_webhook(
    *,
    request: Request,
    services: Services,
    principal: CanWriteWebhooks,
    webhook_id: WebhookId,
    body: WebhookChanges,
) -> Response:
    """What is absent stays. Enabling it again sends what waited meanwhile."""
    changes = _fields(body.model_dump(exclude_unset=True))
    try:
        view = await services.webhooks.change(principal, webhook_id, changes)
    except WebhookRejected as error:
        raise WebhookRejected(await placed(error.problems, await request.body())) from error
    return Response(render_webhook(view), media_type=JSON)


def _fields(body: dict[str, Any]) -> dict[str, Any]:
    if "events" in body:
        body["events"] = tuple(dict.fromkeys(body["events"]))
    return body


async def _rotate_webhook_secret(
    *,
    request: Request,
    services: Services,
    principal: CanWriteWebhooks,
    webhook_id: WebhookId,
    body: Rotation | None = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """For a while both secrets sign, so that receivers can change theirs without missing anything."""
    key = await idempotency_of(request, idempotency_key)
    keep = body.keep_old_seconds if body else DAY_SECONDS
    answer, replayed = await services.webhooks.rotate(
        principal, webhook_id, _rotated, key, keep_old_seconds=float(keep)
    )
    return answer_response(answer, replayed=replayed, media_type=JSON)


async def _delete_webhook(services: Services, principal: CanWriteWebhooks, webhook_id: WebhookId) -> Response:
    """Its log goes with it, and what it is owed is not sent."""
    await services.webhooks.delete(principal, webhook_id)
    return Response(status_code=204)


async def _warnings(
    request: Request, services: Services, principal: CanWriteWebhooks, workflow: str | None
) -> list[Problem]:
    """None where the name is that of a registered workflow, or there is no name."""
    if workflow is None:
        return []
    try:
        await services.workflows.get(principal, workflow)
    except WorkflowNotFound as error:
        detail, _, advice = str(error).partition("; ")
        hint = f"{advice}; runs of inline definitions of that name are told of as well"
        warning = Problem(pointer="/workflow", detail=detail, hint=hint)
        return await placed([warning], await request.body())
    return []


def _created(warnings: Sequence[Problem], view: WebhookView) -> Answer:
    headers = {"Location": webhook_path(view.endpoint.id)}
    return Answer(status_code=201, body=render_created(view, warnings), headers=headers)


def _rotated(view: WebhookView) -> Answer:
    return Answer(status_code=200, body=render_webhook(view))


# --- read ---------------------------------------------------------------------------------------------


async def _list_webhooks(
    *,
    request: Request,
    services: Services,
    principal: CanReadWebhooks,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Those that are registered; what runs brought along is at `/v1/runs/{run_id}/deliveries`."""
    page = await services.webhooks.list(principal, limit=limit, cursor=cursor)
    headers = next_link(request, page.next_cursor)
    return Response(render_webhooks(page.items, page.next_cursor), headers=headers, media_type=JSON)


async def _get_webhook(services: Services, principal: CanReadWebhooks, webhook_id: WebhookId) -> Response:
    """Everything but its secret."""
    view = await services.webhooks.get(principal, webhook_id)
    return Response(render_webhook(view), media_type=JSON)
