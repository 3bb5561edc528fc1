"""Registered workflows over HTTP: register, validate, list, read, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanReadWorkflows, CanWriteWorkflows
from app.api.bodies import DocumentBody, StrictRoute
from app.api.negotiation import tags_of
from app.api.openapi import workflow_openapi
from app.api.responses import REPLAYED, answer_response, bodyless, problems, success
from app.api.services import Services
from app.api.terms import KeyHeader, idempotency_of
from app.api.v1 import examples
from app.api.v1.parameters import Cursor, IfMatch, IfNoneMatch, Limit, VersionPath, WorkflowPath
from app.api.v1.rendering import (
    JSON,
    render_registered,
    render_valid,
    render_workflow,
    render_workflows,
    version_path,
)
from app.api.v1.runs import next_link
from app.api.v1.schemas.workflows import RegisteredWorkflow, ValidWorkflow, Workflow, WorkflowList
from app.ports.problems import Problem
from app.services.idempotency import Answer
from app.services.views import WorkflowView
from app.services.workflows import WorkflowPage, entity_tag

_REGISTERED: Final = ("Location", "ETag", REPLAYED)
_DOCUMENT: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "A workflow document, in YAML or JSON",
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["name", "steps"]},
                "example": examples.DEFINITION,
            },
            "application/yaml": {"schema": {"type": "string"}, "example": examples.DEFINITION_YAML},
        },
    }
}
_READ: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: success("The version", Workflow, examples.WORKFLOW, headers=("ETag",)),
        304: bodyless("The caller has it already", headers=("ETag",)),
        **problems(403, 404, 422),
    },
}
_LIST: Final[dict[str, Any]] = {
    "response_class": Response,
    "responses": {
        200: success("A page", WorkflowList, examples.WORKFLOW_LIST, headers=("Link",)),
        **problems(400, 403, 404, 422),
    },
}


def workflows_router() -> APIRouter:
    """The routes of workflows."""
    router = APIRouter(route_class=StrictRoute, tags=["workflows"])
    _add_writing(router)
    _add_reading(router)
    return router


def _add_writing(router: APIRouter) -> None:
    router.post(
        "/v1/workflows",
        operation_id="register_workflow",
        summary="Register a version of a workflow",
        status_code=201,
        response_class=Response,
        openapi_extra=_DOCUMENT,
        responses={
            201: success("The version is new", RegisteredWorkflow, examples.REGISTERED, headers=_REGISTERED),
            200: success(
                "The version existed with this content",
                RegisteredWorkflow,
                examples.REGISTERED,
                headers=_REGISTERED,
            ),
            **problems(400, 403, 409, 413, 415, 422, 503),
        },
    )(_register_workflow)
    router.post(
        "/v1/workflows/validate",
        operation_id="validate_workflow",
        summary="Check a definition without storing it",
        response_class=Response,
        openapi_extra=_DOCUMENT,
        responses={
            200: success("It can be registered", ValidWorkflow, examples.VALID_WORKFLOW),
            **problems(400, 403, 413, 415, 422),
        },
    )(_validate_workflow)
    router.delete(
        "/v1/workflows/{name}",
        operation_id="delete_workflow",
        summary="Forget every version of a workflow",
        status_code=204,
        response_class=Response,
        responses={204: bodyless("It is gone"), **problems(403, 404, 409, 412, 422, 503)},
    )(_delete_workflow)


def _add_reading(router: APIRouter) -> None:
    router.get("/v1/workflows", operation_id="list_workflows", summary="List workflows by name", **_LIST)(
        _list_workflows
    )
    router.get(
        "/v1/workflows/{name}", operation_id="get_workflow", summary="Read the newest version", **_READ
    )(_get_workflow)
    router.get(
        "/v1/workflows/{name}/versions",
        operation_id="list_workflow_versions",
        summary="List versions, newest first",
        **_LIST,
    )(_list_versions)
    router.get(
        "/v1/workflows/{name}/versions/{version}",
        operation_id="get_workflow_version",
        summary="Read a version",
        **_READ,
    )(_get_version)
    router.get(
        "/v1/workflows/{name}/openapi.json",
        operation_id="get_workflow_openapi",
        summary="OpenAPI document of one workflow's runs",
        response_class=Response,
        responses={
            200: {
                "description": "An OpenAPI 3.1 document",
                "content": {JSON: {"schema": {"type": "object"}}},
            },
            **problems(403, 404, 422),
        },
    )(_get_workflow_openapi)


# --- write --------------------------------------------------------------------------------------------


async def _register_workflow(
    request: Request,
    services: Services,
    principal: CanWriteWorkflows,
    document: DocumentBody,
    idempotency_key: KeyHeader = None,
) -> Response:
    """Versions are immutable. The same content again changes nothing; another content is a conflict.

    `warnings` name providers and databases that this service does not have (yet), and steps that use one
    index with vectors of several models.
    """
    key = await idempotency_of(request, idempotency_key)
    answer, replayed = await services.workflows.register(
        principal, document.body, document.format, _registered, key
    )
    return answer_response(answer, replayed=replayed, media_type=JSON)


def _registered(warnings: Sequence[Problem], view: WorkflowView, is_new: bool) -> Answer:
    summary = view.summary
    headers = {
        "Location": version_path(summary.name, summary.version),
        "ETag": entity_tag(summary.definition_hash),
    }
    return Answer(status_code=201 if is_new else 200, body=render_registered(view, warnings), headers=headers)


async def _validate_workflow(
    services: Services, principal: CanWriteWorkflows, document: DocumentBody
) -> Response:
    """Every problem is listed at once, each with its JSON Pointer, line, column and a hint.

    Nothing is stored, so a repeated request has the same answer and needs no `Idempotency-Key`.
    """
    workflow, warnings = await services.workflows.validate(document.body, document.format)
    return Response(render_valid(workflow, warnings), media_type=JSON)


async def _delete_workflow(
    services: Services, principal: CanWriteWorkflows, name: WorkflowPath, if_match: IfMatch = None
) -> Response:
    """Refused while runs of it are active. Ended runs keep the definition they started with."""
    await services.workflows.delete(principal, name, if_match=if_match)
    return Response(status_code=204)


# --- read ---------------------------------------------------------------------------------------------


async def _list_workflows(
    request: Request,
    services: Services,
    principal: CanReadWorkflows,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """The newest version of each."""
    return _page(request, await services.workflows.list(principal, limit=limit, cursor=cursor))


async def _list_versions(
    *,
    request: Request,
    services: Services,
    principal: CanReadWorkflows,
    name: WorkflowPath,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Response:
    """In the order of their registration."""
    return _page(request, await services.workflows.versions(principal, name, limit=limit, cursor=cursor))


async def _get_workflow(
    services: Services, principal: CanReadWorkflows, name: WorkflowPath, if_none_match: IfNoneMatch = None
) -> Response:
    """The version that was registered last."""
    return _workflow(await services.workflows.get(principal, name), if_none_match)


async def _get_version(
    services: Services,
    principal: CanReadWorkflows,
    name: WorkflowPath,
    version: VersionPath,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Versions never change."""
    return _workflow(await services.workflows.get(principal, name, version), if_none_match)


async def _get_workflow_openapi(
    request: Request, services: Services, principal: CanReadWorkflows, name: WorkflowPath
) -> Response:
    """`run_workflow` for this workflow: its path filled in, and `inputs` by the workflow's own schema."""
    view = await services.workflows.get(principal, name)
    return Response(orjson.dumps(workflow_openapi(request.app, view)), media_type=JSON)


def _page(request: Request, page: WorkflowPage) -> Response:
    body = render_workflows(page.items, page.next_cursor)
    return Response(body, headers=next_link(request, page.next_cursor), media_type=JSON)


def _workflow(view: WorkflowView, if_none_match: str | None) -> Response:
    tag = entity_tag(view.summary.definition_hash)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in tags_of(if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(render_workflow(view), headers=headers, media_type=JSON)
