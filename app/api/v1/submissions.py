"""Submitting runs over HTTP: an answer at once, or the finished run for a caller who waits."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanSubmitRuns
from app.api.bodies import located, placed
from app.api.flat import FlatRoute
from app.api.responses import REPLAYED, answer_response, problems, success
from app.api.services import ApiServices, Services
from app.api.terms import TERMS_PARAMETERS, SubmissionTerms, Terms, idempotency_of
from app.api.v1 import examples
from app.api.v1.parameters import WorkflowPath
from app.api.v1.rendering import JSON, render_accepted, render_run, run_path
from app.api.v1.schemas.runs import Run, RunAccepted, RunWorkflow, SubmissionOptions, SubmitRun
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.runs import RunRow
from app.services.idempotency import Answer
from app.services.principal import Principal
from app.services.runs import Accepted, RunRequest
from app.services.views import RunView
from app.services.webhook_errors import WebhookRejected
from app.services.webhook_rules import RunWebhook

RETRY_AFTER: Final = "1"
"""Seconds after which to look for the end of a run."""
ACCEPTED_HEADERS: Final = ("Location", "Retry-After", REPLAYED)
"""Of the answer that a run was accepted."""
_FINISHED: Final = ("Location", "Preference-Applied", REPLAYED)


def submissions_router() -> APIRouter:
    """The routes that start runs."""
    router = APIRouter(route_class=FlatRoute, tags=["runs"])
    submissions: dict[str, Any] = {
        "status_code": 202,
        "response_class": Response,
        "openapi_extra": {"parameters": TERMS_PARAMETERS},
        "responses": {
            202: success("The run is durable", RunAccepted, examples.RUN_ACCEPTED, headers=ACCEPTED_HEADERS),
            200: success("It ended while the caller waited", Run, examples.RUN, headers=_FINISHED),
            **problems(400, 403, 404, 409, 413, 415, 422, 429, 503),
        },
    }
    router.post(
        "/v1/workflows/{name}/runs",
        operation_id="run_workflow",
        summary="Run a registered workflow",
        **submissions,
    )(_run_workflow)
    router.post("/v1/runs", operation_id="submit_run", summary="Run a workflow", **submissions)(_submit_run)
    return router


async def _submit_run(
    request: Request, services: Services, principal: CanSubmitRuns, terms: SubmissionTerms, body: SubmitRun
) -> Response:
    """Accepts a run of an inline definition or of a registered workflow; it is durable when 202 is sent.

    With `Prefer: wait=N` or `?wait=N` the answer is the finished run, if it ends in time. A repeated
    `Idempotency-Key` gives the same run; whether to wait is asked anew each time.
    """
    wanted = RunRequest(
        workflow=body.workflow,
        version=body.version,
        inputs=body.inputs,
        labels=body.labels,
        priority=body.priority,
        timeout_seconds=body.timeout_seconds,
        webhook=_webhook(body),
        budget=body.budget.given() if body.budget else None,
    )
    return await _submit(request, services, principal, terms, wanted)


async def _run_workflow(
    *,
    request: Request,
    services: Services,
    principal: CanSubmitRuns,
    terms: SubmissionTerms,
    name: WorkflowPath,
    body: RunWorkflow,
) -> Response:
    """Accepts a run of the newest or the given version; `inputs` must fit the workflow's `inputs_schema`.

    `GET /v1/workflows/{name}/openapi.json` describes this operation with that schema in place.
    """
    wanted = RunRequest(
        workflow=name,
        version=body.version,
        inputs=body.inputs,
        labels=body.labels,
        priority=body.priority,
        timeout_seconds=body.timeout_seconds,
        webhook=_webhook(body),
        budget=body.budget.given() if body.budget else None,
    )
    return await _submit(request, services, principal, terms, wanted)


async def _submit(
    request: Request, services: ApiServices, principal: Principal, terms: Terms, wanted: RunRequest
) -> Response:
    key = await idempotency_of(request, terms.key)
    try:
        accepted = await services.runs.submit(principal, wanted, accepted_answer, key)
    except (DefinitionInvalid, InputsInvalid) as error:
        raise await located(error, await request.body()) from error
    except WebhookRejected as error:
        raise WebhookRejected(await placed(error.problems, await request.body())) from error
    if terms.wait_seconds is not None:
        view = await _end_of(request, services, principal, accepted, terms)
        if view is not None:
            headers = {
                "Location": run_path(view.summary.id),
                "Preference-Applied": f"wait={terms.wait_seconds}",
            }
            answer = Answer(status_code=200, body=render_run(view), headers=headers)
            return answer_response(answer, replayed=accepted.replayed, media_type=JSON)
        if (now := await services.runs.summary(principal, accepted.run_id)) is not None:
            # It was accepted a while ago: what it is by now is what the caller waited to hear.
            return answer_response(accepted_answer(now), replayed=accepted.replayed, media_type=JSON)
    return answer_response(accepted.answer, replayed=accepted.replayed, media_type=JSON)


def _webhook(body: SubmissionOptions) -> RunWebhook | None:
    match body.webhook:
        case None:
            return None
        case str(url):
            return RunWebhook(url=url)
        case it:
            return RunWebhook(
                url=it.url,
                events=tuple(dict.fromkeys(it.events)),
                secret=it.secret,
                include_outputs=it.include_outputs,
            )


def accepted_answer(run: RunRow) -> Answer:
    """The answer to whatever makes a run."""
    headers = {"Location": run_path(run.id), "Retry-After": RETRY_AFTER}
    return Answer(status_code=202, body=render_accepted(run), headers=headers)


async def _end_of(
    request: Request, services: ApiServices, principal: Principal, accepted: Accepted, terms: Terms
) -> RunView | None:
    """The ended run, or None. Only a caller who asked for it takes the run along when it goes away."""
    end = services.runs.wait(principal, accepted, seconds=float(terms.wait_seconds or 0))
    if not terms.cancel_on_disconnect:
        return await end
    waiting = asyncio.ensure_future(end)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            await services.runs.abandon(principal, accepted.run_id, reason="the caller went away")
            return None
        return waiting.result()
    finally:
        waiting.cancel()
        leaving.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
