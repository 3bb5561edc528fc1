"""Runs over HTTP: list, read, cancel. A handler parses, calls a service and returns bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, get_args

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanControlRuns, CanReadRuns
from app.api.bodies import StrictRoute
from app.api.negotiation import tags_of
from app.api.responses import REPLAYED, answer_response, bodyless, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import examples
from app.api.v1.parameters import LABEL_FILTER, Cursor, IfNoneMatch, Limit, RunId, Time, one_of, split
from app.api.v1.rendering import (
    JSON,
    render_receipt,
    render_run,
    render_runs,
    run_path,
)
from app.api.v1.schemas.runs import (
    MAX_PATH,
    CancelReceipt,
    CancelRun,
    Run,
    RunList,
    WorkflowName,
)
from app.engines.engine import CancelReceipt as Receipt
from app.ports.runs import RunFilter, RunStatus
from app.ports.turns import computed
from app.services.cursors import fingerprint
from app.services.idempotency import Answer
from app.services.step_selection import ALL_STEPS, StepsWanted
from app.services.views import RunView

INCLUDES: Final = ("outputs", "attempts")
SMALL_STEPS: Final = 200
"""Steps that are written on the spot, in some 2 ms."""
_SEQ_TAG: Final = re.compile(r'"([0-9]{1,9})[".]')

Include = Annotated[
    list[Annotated[str, Field(pattern=one_of(INCLUDES))]] | None,
    Query(description="`outputs` of the steps, `attempts` of the steps", examples=[["outputs,attempts"]]),
]
At = Annotated[
    int | None, Query(ge=1, lt=10**15, description="The run as it was after the event with this `seq`")
]
Under = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=MAX_PATH,
        description="Only steps within this step, item or iteration",
        examples=["each[3]"],
    ),
]
Depth = Annotated[
    int | None, Query(ge=1, le=100, description="Only so many levels of steps within each other")
]


def runs_router() -> APIRouter:
    """The routes of runs."""
    router = APIRouter(route_class=StrictRoute, tags=["runs"])
    router.get(
        "/v1/runs",
        operation_id="list_runs",
        summary="List runs, newest first",
        response_class=Response,
        responses={
            200: success("A page of runs", RunList, examples.RUN_LIST, headers=("Link",)),
            **problems(400, 403, 422),
        },
    )(_list_runs)
    router.get(
        "/v1/runs/{run_id}",
        operation_id="get_run",
        summary="Read a run",
        response_class=Response,
        responses={
            200: success("The run with its steps", Run, examples.RUN, headers=("ETag",)),
            304: bodyless("The caller has it already", headers=("ETag",)),
            **problems(403, 404, 422),
        },
    )(_get_run)
    router.post(
        "/v1/runs/{run_id}/cancel",
        operation_id="cancel_run",
        summary="Cancel a run",
        status_code=202,
        response_class=Response,
        responses={
            202: success(
                "It is ending", CancelReceipt, examples.CANCEL_RECEIPT, headers=("Location", REPLAYED)
            ),
            **problems(400, 403, 404, 409, 413, 415, 422, 503),
        },
    )(_cancel_run)
    return router


# --- read ---------------------------------------------------------------------------------------------


async def _list_runs(
    *,
    request: Request,
    services: Services,
    principal: CanReadRuns,
    status: Annotated[
        list[Annotated[str, Field(pattern=one_of(get_args(RunStatus)))]] | None,
        Query(description="One or several, by commas or repetition", examples=[["failed,timed_out"]]),
    ] = None,
    workflow: Annotated[WorkflowName | None, Query(description="Name of the workflow")] = None,
    label: Annotated[
        list[Annotated[str, Field(pattern=LABEL_FILTER)]] | None,
        Query(max_length=16, description="`name:value`; every one must match", examples=[["team:search"]]),
    ] = None,
    created_after: Annotated[Time | None, Query(description="Created later than this")] = None,
    created_before: Annotated[Time | None, Query(description="Created earlier than this")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Pages are stable: runs created meanwhile do not move what a cursor continues."""
    wanted = RunFilter(
        statuses=split(status),
        workflow=workflow,
        labels=dict(_label(pair) for pair in label or ()),
        created_after=created_after.timestamp() if created_after else None,
        created_before=created_before.timestamp() if created_before else None,
    )
    page = await services.runs.list(principal, wanted, limit=limit, cursor=cursor)
    return Response(
        render_runs(page.items, page.next_cursor),
        headers=next_link(request, page.next_cursor),
        media_type=JSON,
    )


def _label(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition(":")
    return name, value


def next_link(request: Request, cursor: str | None) -> dict[str, str]:
    """The `Link` header to the next page (RFC 8288)."""
    if cursor is None:
        return {}
    query = request.url.include_query_params(cursor=cursor).query
    return {"Link": f'<{request.url.path}?{query}>; rel="next"'}


async def _get_run(
    *,
    services: Services,
    principal: CanReadRuns,
    run_id: RunId,
    include: Include = None,
    at: At = None,
    under: Under = None,
    depth: Depth = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The run as its journal says. Its `ETag` changes with every event of the run.

    The workflow's own steps are always listed; of those within others the first 1,000 that were asked for,
    and `steps_omitted` counts the rest.
    """
    parts, wanted = split(include), StepsWanted(under=under, depth=depth)
    marks = _marks(parts, wanted)
    known = known_seq(if_none_match, marks)
    fresh = known if at in (None, known) else None
    if fresh and await services.runs.is_at(principal, run_id, fresh, latest=at is None):
        return Response(status_code=304, headers=validators(fresh, marks))
    view = await services.runs.get(principal, run_id, at=at, wanted=wanted)
    body = await _rendered(view, parts)
    return Response(body, headers=validators(view.seq, marks), media_type=JSON)


async def _rendered(view: RunView, include: frozenset[str]) -> bytes:
    """A long list of steps is written in a thread."""
    if len(view.steps) <= SMALL_STEPS:
        return render_run(view, include)
    return await computed(render_run, view, include)


def _marks(include: frozenset[str], wanted: StepsWanted) -> list[str]:
    """What tells this representation of a run from others of the same moment."""
    if wanted == ALL_STEPS:
        return sorted(include)
    return [*sorted(include), fingerprint(wanted.under, wanted.depth)]


def validators(seq: int, marks: Iterable[str] = ()) -> dict[str, str]:
    """The headers of what is known of a run after event `seq`."""
    return {"ETag": _tag(seq, marks), "Cache-Control": "private, no-cache"}


def _tag(seq: int, marks: Iterable[str]) -> str:
    return f'"{".".join([str(seq), *marks])}"'


def known_seq(if_none_match: str | None, marks: Sequence[str] = ()) -> int | None:
    """The journal's seq that the caller has seen with these marks."""
    for tag in tags_of(if_none_match):
        match = _SEQ_TAG.match(tag)
        if match is not None and tag == _tag(int(match[1]), marks):
            return int(match[1])
    return None


# --- control ------------------------------------------------------------------------------------------


async def _cancel_run(
    *,
    request: Request,
    services: Services,
    principal: CanControlRuns,
    run_id: RunId,
    body: CancelRun | None = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Ends a run early. Calls in flight are aborted; what completed stays completed."""

    def answer(receipt: Receipt) -> Answer:
        headers = {"Location": run_path(run_id)}
        return Answer(status_code=202, body=render_receipt(run_id, receipt), headers=headers)

    key = await idempotency_of(request, idempotency_key)
    reason = body.reason if body else None
    given, replayed = await services.runs.cancel(principal, run_id, reason=reason, receipt=answer, key=key)
    return answer_response(given, replayed=replayed, media_type=JSON)
