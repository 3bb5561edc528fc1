"""Approvals over HTTP: list, read, answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, get_args

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanControlRuns, CanReadRuns
from app.api.bodies import StrictRoute
from app.api.responses import REPLAYED, answer_response, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import examples
from app.api.v1.parameters import Cursor, Limit, one_of, split
from app.api.v1.rendering import JSON, run_path
from app.api.v1.runs import next_link
from app.api.v1.schemas.approvals import AnswerApproval, Approval, ApprovalList
from app.api.v1.schemas.runs import RUN_ID
from app.ports.runs import ApprovalRow, ApprovalStatus
from app.services.idempotency import Answer
from app.services.timestamps import rfc3339, rfc3339_or_none

ApprovalId = Annotated[
    str,
    Path(pattern=RUN_ID, description="Id of the approval", examples=["0197d6a0-7c1e-7000-8000-000000000001"]),
]


def approvals_router() -> APIRouter:
    """The routes of approvals."""
    router = APIRouter(route_class=StrictRoute, tags=["approvals"])
    router.get(
        "/v1/approvals",
        operation_id="list_approvals",
        summary="List approvals, oldest first",
        response_class=Response,
        responses={
            200: success("A page of approvals", ApprovalList, examples.APPROVAL_LIST, headers=("Link",)),
            **problems(400, 403, 422),
        },
    )(_list_approvals)
    router.get(
        "/v1/approvals/{approval_id}",
        operation_id="get_approval",
        summary="Read an approval",
        response_class=Response,
        responses={
            200: success("The approval", Approval, examples.APPROVAL),
            **problems(403, 404, 422),
        },
    )(_get_approval)
    router.post(
        "/v1/approvals/{approval_id}",
        operation_id="answer_approval",
        summary="Answer an approval",
        response_class=Response,
        responses={
            200: success(
                "The approval with its answer", Approval, examples.APPROVAL_ANSWERED, headers=(REPLAYED,)
            ),
            **problems(400, 403, 404, 409, 410, 413, 415, 422, 503),
        },
    )(_answer_approval)
    return router


async def _list_approvals(
    *,
    request: Request,
    services: Services,
    principal: CanReadRuns,
    status: Annotated[
        list[Annotated[str, Field(pattern=one_of(get_args(ApprovalStatus)))]] | None,
        Query(description="`pending` unless told otherwise; several by commas", examples=[["pending"]]),
    ] = None,
    run_id: Annotated[str | None, Query(pattern=RUN_ID, description="Only those of this run")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """What waits for somebody's answer, longest first."""
    statuses = split(status) or frozenset({"pending"})
    page = await services.approvals.list(
        principal, statuses=statuses, run_id=run_id, limit=limit, cursor=cursor
    )
    return Response(
        render_approvals(page.items, page.next_cursor),
        headers=next_link(request, page.next_cursor),
        media_type=JSON,
    )


async def _get_approval(services: Services, principal: CanReadRuns, approval_id: ApprovalId) -> Response:
    """The question, its form, and the answer once there is one."""
    return Response(render_approval(await services.approvals.get(principal, approval_id)), media_type=JSON)


async def _answer_approval(
    *,
    request: Request,
    services: Services,
    principal: CanControlRuns,
    approval_id: ApprovalId,
    body: AnswerApproval,
    idempotency_key: KeyHeader = None,
) -> Response:
    """The first answer counts; the run goes on once it is durable."""

    def answer(row: ApprovalRow) -> Answer:
        return Answer(status_code=200, body=render_approval(row))

    key = await idempotency_of(request, idempotency_key)
    given, replayed = await services.approvals.answer(
        principal, approval_id, action=body.action, data=body.data, receipt=answer, key=key
    )
    return answer_response(given, replayed=replayed, media_type=JSON)


def render_approval(row: ApprovalRow) -> bytes:
    """`Approval`."""
    return orjson.dumps(_approval(row))


def render_approvals(rows: Collection[ApprovalRow], next_cursor: str | None) -> bytes:
    """`ApprovalList`."""
    return orjson.dumps({"data": [_approval(row) for row in rows], "next_cursor": next_cursor})


def _approval(row: ApprovalRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "run_id": row.run_id,
        "path": row.path,
        "workflow": row.workflow,
        "status": row.status,
        "message": row.message,
        "form": row.form,
        "created_at": rfc3339(row.created_at),
        "expires_at": rfc3339_or_none(row.expires_at),
        "action": row.action,
        "answered_by": row.answered_by,
        "answered_at": rfc3339_or_none(row.answered_at),
        "links": {"self": f"/v1/approvals/{row.id}", "run": run_path(row.run_id)},
    }
