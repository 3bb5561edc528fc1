"""Steering runs over HTTP: pause, resume, retry, rerun."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanControlRuns, CanSubmitRuns
from app.api.bodies import StrictRoute, placed
from app.api.responses import REPLAYED, answer_response, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import examples
from app.api.v1.parameters import RunId
from app.api.v1.rendering import JSON, render_control, run_path
from app.api.v1.schemas.budgets import ResumeRun
from app.api.v1.schemas.runs import PauseRun, RerunRun, RetryRun, RunAccepted
from app.api.v1.submissions import ACCEPTED_HEADERS, accepted_answer
from app.ports.errors import InputsInvalid
from app.ports.runs import RunStatus
from app.services.errors import ServiceError, UnknownStep, rejection
from app.services.idempotency import Answer
from app.services.reruns import RerunRequest

_STEERED: Final = ("Location", REPLAYED)


def run_control_router() -> APIRouter:
    """The routes that steer runs and repeat them."""
    router = APIRouter(route_class=StrictRoute, tags=["runs"])
    steered: dict[str, Any] = {"status_code": 202, "response_class": Response}
    router.post(
        "/v1/runs/{run_id}/pause",
        operation_id="pause_run",
        summary="Pause a run",
        **steered,
        responses={
            202: success("It starts nothing further", RunAccepted, examples.PAUSED, headers=_STEERED),
            **problems(400, 403, 404, 409, 413, 415, 422, 503),
        },
    )(_pause_run)
    router.post(
        "/v1/runs/{run_id}/resume",
        operation_id="resume_run",
        summary="Resume a paused run",
        **steered,
        responses={
            202: success("It goes on", RunAccepted, examples.RESUMED, headers=_STEERED),
            **problems(400, 403, 404, 409, 413, 415, 422, 503),
        },
    )(_resume_run)
    repeated = success("The new run is durable", RunAccepted, examples.RUN_ACCEPTED, headers=ACCEPTED_HEADERS)
    refusals = problems(400, 403, 404, 409, 413, 415, 422, 429, 503)
    router.post(
        "/v1/runs/{run_id}/retry",
        operation_id="retry_run",
        summary="Try a run again from where it failed",
        **steered,
        responses={202: repeated, **refusals},
    )(_retry_run)
    router.post(
        "/v1/runs/{run_id}/rerun",
        operation_id="rerun_run",
        summary="Run again, with changes",
        **steered,
        responses={202: repeated, **refusals},
    )(_rerun_run)
    return router


# --- pauses -------------------------------------------------------------------------------------------


async def _pause_run(
    *,
    request: Request,
    services: Services,
    principal: CanControlRuns,
    run_id: RunId,
    body: PauseRun | None = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Starts nothing further of the run; what is in flight goes on to its end."""
    key = await idempotency_of(request, idempotency_key)
    reason = body.reason if body else None
    answer = _steered(run_id, "paused")
    given, replayed = await services.pauses.pause(principal, run_id, reason=reason, answer=answer, key=key)
    return answer_response(given, replayed=replayed, media_type=JSON)


async def _resume_run(
    *,
    request: Request,
    services: Services,
    principal: CanControlRuns,
    run_id: RunId,
    body: ResumeRun | None = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Goes on with a paused run; one that was paused for its `budget` may be given another."""
    key = await idempotency_of(request, idempotency_key)
    budget = body.budget.given() if body and body.budget else None
    given, replayed = await services.pauses.resume(
        principal, run_id, receipt=partial(_steered, run_id), budget=budget, key=key
    )
    return answer_response(given, replayed=replayed, media_type=JSON)


def _steered(run_id: str, status: RunStatus) -> Answer:
    headers = {"Location": run_path(run_id)}
    return Answer(status_code=202, body=render_control(run_id, status), headers=headers)


# --- repetitions --------------------------------------------------------------------------------------


async def _retry_run(
    *,
    request: Request,
    services: Services,
    principal: CanSubmitRuns,
    run_id: RunId,
    body: RetryRun | None = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Accepts a new run of the same definition and inputs, which takes what completed from the earlier one.

    For runs that ended without completing. The new run's `parent_run_id` is the earlier one, which stays
    as it is.
    """
    key = await idempotency_of(request, idempotency_key)
    accepted = await services.reruns.retry(principal, run_id, accepted_answer, key)
    return answer_response(accepted.answer, replayed=accepted.replayed, media_type=JSON)


async def _rerun_run(
    *,
    request: Request,
    services: Services,
    principal: CanSubmitRuns,
    run_id: RunId,
    body: RerunRun | None = None,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Accepts a new run, which takes from the earlier one what would be done the same again.

    A step is taken over if its definition, its rendered inputs and its model are unchanged, and if it is
    not `from` or after it. `reused` of the new run says what that saved.
    """
    key = await idempotency_of(request, idempotency_key)
    wanted = body or RerunRun()
    changes = RerunRequest(
        start=wanted.start,
        inputs=wanted.inputs,
        version=wanted.version,
        labels=wanted.labels,
        priority=wanted.priority,
    )
    try:
        accepted = await services.reruns.rerun(principal, run_id, changes, accepted_answer, key)
    except (InputsInvalid, UnknownStep) as error:
        raise await _located(error, await request.body()) from error
    return answer_response(accepted.answer, replayed=accepted.replayed, media_type=JSON)


async def _located(error: InputsInvalid | UnknownStep, body: bytes) -> ServiceError:
    """What to mend, with its place in the body; inputs may be those of the earlier run and have none."""
    if isinstance(error, UnknownStep):
        return UnknownStep(str(error), problems=await placed(error.problems, body))
    return rejection(InputsInvalid(await placed(error.problems, body or b"{}", under="/inputs")))
