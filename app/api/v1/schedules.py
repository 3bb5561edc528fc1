"""Schedules over HTTP: create, list, read, replace, delete, pause, resume, trigger."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanReadSchedules, CanWriteSchedules
from app.api.bodies import StrictRoute, located, placed
from app.api.responses import REPLAYED, answer_response, bodyless, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import examples as run_examples
from app.api.v1 import schedule_examples as examples
from app.api.v1.parameters import Cursor, IfMatch, Limit, ScheduleId
from app.api.v1.rendering import JSON, render_accepted, run_path
from app.api.v1.runs import next_link
from app.api.v1.schedule_rendering import render_schedule, render_schedules, schedule_path
from app.api.v1.schemas.runs import RunAccepted
from app.api.v1.schemas.schedules import Schedule, ScheduleList, ScheduleSettings
from app.ports.errors import InputsInvalid
from app.ports.runs import RunRow
from app.ports.schedules import ScheduleSpec
from app.services.errors import ScheduleRejected, ServiceError
from app.services.idempotency import Answer
from app.services.schedule_changes import ScheduleRequest
from app.services.schedule_views import ScheduleView, entity_tag

_ONE: Final = "/v1/schedules/{schedule_id}"


def schedules_router() -> APIRouter:
    """The routes of schedules."""
    router = APIRouter(route_class=StrictRoute, tags=["schedules"])
    _add_settings(router)
    _add_reading(router)
    _add_control(router)
    return router


def _add_settings(router: APIRouter) -> None:
    router.post(
        "/v1/schedules",
        operation_id="create_schedule",
        summary="Run a workflow by the clock",
        status_code=201,
        response_class=Response,
        responses={
            201: success("It is kept", Schedule, examples.SCHEDULE, headers=("Location", "ETag", REPLAYED)),
            **problems(400, 403, 409, 413, 415, 422, 503),
        },
    )(_create_schedule)
    router.put(
        _ONE,
        operation_id="replace_schedule",
        summary="Set a schedule anew",
        response_class=Response,
        responses={
            200: success("As it is now", Schedule, examples.SCHEDULE, headers=("ETag",)),
            **problems(400, 403, 404, 409, 412, 413, 415, 422, 503),
        },
    )(_replace_schedule)
    router.delete(
        _ONE,
        operation_id="delete_schedule",
        summary="Forget a schedule",
        status_code=204,
        response_class=Response,
        responses={204: bodyless("It is gone"), **problems(403, 404, 412, 422, 503)},
    )(_delete_schedule)


def _add_reading(router: APIRouter) -> None:
    router.get(
        "/v1/schedules",
        operation_id="list_schedules",
        summary="List schedules by name",
        response_class=Response,
        responses={
            200: success("A page", ScheduleList, examples.SCHEDULE_LIST, headers=("Link",)),
            **problems(400, 403, 422),
        },
    )(_list_schedules)
    router.get(
        _ONE,
        operation_id="get_schedule",
        summary="Read a schedule",
        response_class=Response,
        responses={
            200: success("The schedule", Schedule, examples.SCHEDULE, headers=("ETag",)),
            **problems(403, 404, 422),
        },
    )(_get_schedule)


def _add_control(router: APIRouter) -> None:
    changed: dict[str, Any] = {
        "response_class": Response,
        "responses": {
            200: success("As it is now", Schedule, examples.SCHEDULE, headers=("ETag", REPLAYED)),
            **problems(403, 404, 409, 422, 503),
        },
    }
    router.post(f"{_ONE}/pause", operation_id="pause_schedule", summary="Fire no more", **changed)(
        _pause_schedule
    )
    router.post(f"{_ONE}/resume", operation_id="resume_schedule", summary="Fire again", **changed)(
        _resume_schedule
    )
    router.post(
        f"{_ONE}/trigger",
        operation_id="trigger_schedule",
        summary="Start a run now",
        status_code=202,
        response_class=Response,
        responses={
            202: success(
                "The run is durable", RunAccepted, run_examples.RUN_ACCEPTED, headers=("Location", REPLAYED)
            ),
            **problems(403, 404, 409, 422, 429, 503),
        },
    )(_trigger_schedule)


# --- settings -----------------------------------------------------------------------------------------


async def _create_schedule(
    *,
    request: Request,
    services: Services,
    principal: CanWriteSchedules,
    body: ScheduleSettings,
    idempotency_key: KeyHeader = None,
) -> Response:
    """It is checked as if it fired now: its times, that the workflow exists, that the inputs fit."""
    key = await idempotency_of(request, idempotency_key)
    try:
        answer, replayed = await services.schedules.create(principal, _wanted(body), _created, key)
    except (ScheduleRejected, InputsInvalid) as error:
        raise await _in_body(error, await request.body()) from error
    return answer_response(answer, replayed=replayed, media_type=JSON)


async def _replace_schedule(
    *,
    request: Request,
    services: Services,
    principal: CanWriteSchedules,
    schedule_id: ScheduleId,
    body: ScheduleSettings,
    if_match: IfMatch = None,
) -> Response:
    """What is absent gets its default, but `paused` stays. Unchanged times go on; others begin now."""
    try:
        view = await services.schedules.replace(principal, schedule_id, _wanted(body), if_match=if_match)
    except (ScheduleRejected, InputsInvalid) as error:
        raise await _in_body(error, await request.body()) from error
    return _schedule(view)


async def _delete_schedule(
    services: Services, principal: CanWriteSchedules, schedule_id: ScheduleId, if_match: IfMatch = None
) -> Response:
    """Its runs stay, those under way go on, and what is queued does not start."""
    await services.schedules.delete(principal, schedule_id, if_match=if_match)
    return Response(status_code=204)


def _wanted(body: ScheduleSettings) -> ScheduleRequest:
    spec = ScheduleSpec(
        workflow=body.workflow,
        version=body.version,
        inputs=body.inputs,
        labels=body.labels,
        priority=body.priority,
        timeout_seconds=body.timeout_seconds,
        cron=body.cron,
        interval_seconds=body.interval_seconds,
        time_zone=body.time_zone,
        overlap=body.overlap,
        catch_up=body.catch_up,
        catch_up_seconds=body.catch_up_seconds,
        start_at=_seconds(body.start_at),
        end_at=_seconds(body.end_at),
    )
    return ScheduleRequest(name=body.name, spec=spec, paused=body.paused)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


async def _in_body(error: ScheduleRejected | InputsInvalid, body: bytes) -> ServiceError:
    """The problems with their places in the body that their author wrote."""
    if isinstance(error, InputsInvalid):
        return await located(error, body)
    return ScheduleRejected(str(error), problems=await placed(error.problems, body))


# --- read ---------------------------------------------------------------------------------------------


async def _list_schedules(
    *,
    request: Request,
    services: Services,
    principal: CanReadSchedules,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """Each with its next fire time; reading one of them gives more of these, and its latest fires."""
    page = await services.schedules.list(principal, limit=limit, cursor=cursor)
    headers = next_link(request, page.next_cursor)
    return Response(render_schedules(page.items, page.next_cursor), headers=headers, media_type=JSON)


async def _get_schedule(services: Services, principal: CanReadSchedules, schedule_id: ScheduleId) -> Response:
    """With its next five fire times and its last ten fires. The `ETag` changes with the settings only."""
    return _schedule(await services.schedules.get(principal, schedule_id))


def _schedule(view: ScheduleView) -> Response:
    headers = {"ETag": entity_tag(view.row), "Cache-Control": "private, no-cache"}
    return Response(render_schedule(view), headers=headers, media_type=JSON)


# --- control ------------------------------------------------------------------------------------------


async def _pause_schedule(
    *,
    request: Request,
    services: Services,
    principal: CanWriteSchedules,
    schedule_id: ScheduleId,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Runs under way go on; what is queued waits until the schedule is resumed."""
    key = await idempotency_of(request, idempotency_key)
    answer, replayed = await services.schedules.pause(principal, schedule_id, _changed, key)
    return answer_response(answer, replayed=replayed, media_type=JSON)


async def _resume_schedule(
    *,
    request: Request,
    services: Services,
    principal: CanWriteSchedules,
    schedule_id: ScheduleId,
    idempotency_key: KeyHeader = None,
) -> Response:
    """The next fire time is the first from now; what the pause left out is not made up."""
    key = await idempotency_of(request, idempotency_key)
    answer, replayed = await services.schedules.resume(principal, schedule_id, _changed, key)
    return answer_response(answer, replayed=replayed, media_type=JSON)


async def _trigger_schedule(
    *,
    request: Request,
    services: Services,
    principal: CanWriteSchedules,
    schedule_id: ScheduleId,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Paused or not, and beside whatever run is active: the overlap policy is about the clock's fires."""
    key = await idempotency_of(request, idempotency_key)
    answer, replayed = await services.schedules.trigger(principal, schedule_id, _accepted, key)
    return answer_response(answer, replayed=replayed, media_type=JSON)


def _created(view: ScheduleView) -> Answer:
    headers = {"Location": schedule_path(view.row.id), "ETag": entity_tag(view.row)}
    return Answer(status_code=201, body=render_schedule(view), headers=headers)


def _changed(view: ScheduleView) -> Answer:
    return Answer(status_code=200, body=render_schedule(view), headers={"ETag": entity_tag(view.row)})


def _accepted(run: RunRow) -> Answer:
    return Answer(status_code=202, body=render_accepted(run), headers={"Location": run_path(run.id)})
