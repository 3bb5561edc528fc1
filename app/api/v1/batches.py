"""Many runs in one request over HTTP: submit, cancel, retry."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanControlRuns, CanSubmitRuns
from app.api.bodies import StrictRoute
from app.api.responses import REPLAYED, answer_response, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import bulk_examples as examples
from app.api.v1.batch_bodies import (
    VersionOfLines,
    WorkflowOfLines,
    example_content,
    located_in_batch,
    read_batch,
)
from app.api.v1.rendering import JSON
from app.api.v1.schemas.batches import BatchAccepted, BulkOutcome, CancelRuns, ControlRuns, RetryRuns
from app.api.v1.submissions import accepted_answer
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.runs import RunFilter
from app.ports.turns import computed
from app.services.batches import Batch
from app.services.bulk import BulkOutcome as Outcome
from app.services.bulk import Selection
from app.services.idempotency import Answer, IdempotencyKey, fingerprint
from app.services.run_labels import BATCH

_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "The runs as one JSON object, or the inputs of each as a line of JSON",
        "content": example_content(examples.SUBMIT_BATCH, examples.BATCH_LINES),
    }
}


def batches_router() -> APIRouter:
    """The routes of many runs."""
    router = APIRouter(route_class=StrictRoute, tags=["runs"])
    router.post(
        "/v1/runs:batch",
        operation_id="submit_batch",
        summary="Run a workflow many times",
        status_code=202,
        response_class=Response,
        openapi_extra=_BODY,
        responses={
            202: success(
                "All runs are durable", BatchAccepted, examples.BATCH_ACCEPTED, headers=("Location", REPLAYED)
            ),
            **problems(400, 403, 404, 409, 413, 415, 422, 429, 503),
        },
    )(_submit_batch)
    controlled: dict[str, Any] = {
        "status_code": 202,
        "response_class": Response,
        "responses": {
            202: success("What became of them", BulkOutcome, examples.BULK_OUTCOME, headers=(REPLAYED,)),
            **problems(400, 403, 409, 413, 415, 422, 429, 503),
        },
    }
    router.post("/v1/runs:cancel", operation_id="cancel_runs", summary="Cancel runs by filter", **controlled)(
        _cancel_runs
    )
    router.post(
        "/v1/runs:retry", operation_id="retry_runs", summary="Try runs again by filter", **controlled
    )(_retry_runs)
    return router


async def _submit_batch(
    *,
    request: Request,
    services: Services,
    principal: CanSubmitRuns,
    workflow: WorkflowOfLines = None,
    version: VersionOfLines = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Accepts 1 to 10,000 runs, or none of them: all inputs are checked before anything is stored.

    The runs wait for their turn in the queue; a batch that does not fit into it is refused whole.
    """
    wanted = await read_batch(request, workflow, version)
    key = await _key_of(request, idempotency_key)
    try:
        given, replayed = await services.batches.submit(principal, wanted, _accepted, key)
    except (DefinitionInvalid, InputsInvalid) as error:
        raise await located_in_batch(error, request, await request.body()) from error
    return answer_response(given, replayed=replayed, media_type=JSON)


async def _cancel_runs(
    *,
    request: Request,
    services: Services,
    principal: CanControlRuns,
    body: CancelRuns,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Ends matching runs early, newest first, at most 1,000 in a call; repeat it until none matches."""
    key = await idempotency_of(request, idempotency_key)
    given, replayed = await services.bulk.cancel(
        principal, _selection(body), reason=body.reason, receipt=_outcome, key=key
    )
    return answer_response(given, replayed=replayed, media_type=JSON)


async def _retry_runs(
    *,
    request: Request,
    services: Services,
    principal: CanSubmitRuns,
    body: RetryRuns,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Tries matching runs again, newest first, at most 1,000 in a call; go on with `next_cursor`.

    The runs stay as they are, and match again: without the cursor they would be tried once more.
    """
    key = await idempotency_of(request, idempotency_key)
    given, replayed = await services.bulk.retry(
        principal, _selection(body), run_receipt=accepted_answer, receipt=_outcome, key=key
    )
    return answer_response(given, replayed=replayed, media_type=JSON)


def _selection(body: ControlRuns) -> Selection:
    wanted = body.filter
    return Selection(
        filter=RunFilter(
            statuses=frozenset(wanted.status or ()),
            workflow=wanted.workflow,
            labels=wanted.labels,
            created_after=wanted.created_after.timestamp() if wanted.created_after else None,
            created_before=wanted.created_before.timestamp() if wanted.created_before else None,
        ),
        limit=body.limit,
        cursor=body.cursor,
    )


def _outcome(outcome: Outcome) -> Answer:
    failed = [{"id": one.run_id, "code": one.code, "detail": one.detail} for one in outcome.refused]
    body = {
        "matched": outcome.matched,
        "accepted": outcome.accepted,
        "failed": failed,
        "next_cursor": outcome.next_cursor,
    }
    return Answer(status_code=202, body=orjson.dumps(body))


async def _key_of(request: Request, key: str | None) -> IdempotencyKey | None:
    """The key with the fingerprint of its request, to which the query belongs: it may name the workflow."""
    if key is None:
        return None
    target = f"{request.url.path}?{request.url.query}"
    digest = await computed(fingerprint, request.method, target, await request.body())
    return IdempotencyKey(key=key, fingerprint=digest)


def _accepted(batch: Batch) -> Answer:
    runs = f"/v1/runs?label={BATCH}:{batch.id}"
    body = {"batch": batch.id, "count": len(batch.run_ids), "run_ids": batch.run_ids, "links": {"runs": runs}}
    return Answer(status_code=202, body=orjson.dumps(body), headers={"Location": runs})
