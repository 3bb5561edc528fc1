"""The JSON Schema of workflow documents over HTTP, for editors that complete and check them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from fastapi import APIRouter
from starlette.responses import Response

from app.api.auth import CanReadWorkflows
from app.api.bodies import StrictRoute
from app.api.negotiation import tags_of
from app.api.responses import bodyless, problems
from app.api.v1.parameters import IfNoneMatch
from app.api.v1.rendering import JSON
from app.dsl.schema import schema_json
from app.ports.turns import computed
from app.steps.registry import STEP_KINDS

_EXAMPLE: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Workflow",
    "type": "object",
    "required": ["name", "steps"],
    "properties": {"name": {"type": "string"}, "steps": {"type": "array", "items": {"$ref": "#/$defs/Step"}}},
    "$defs": {"Step": {"title": "Step"}},
}


@dataclass(frozen=True, slots=True)
class _Published:
    body: bytes
    tag: str


class WorkflowSchema:
    """Makes the document when it is first asked for, beside the event loop, and keeps it."""

    def __init__(self) -> None:
        self._published: _Published | None = None

    async def get(self, principal: CanReadWorkflows, if_none_match: IfNoneMatch = None) -> Response:
        """A JSON Schema (2020-12). It changes with the version of the service only."""
        if self._published is None:
            self._published = await computed(_publish)
        published = self._published
        headers = {"ETag": published.tag, "Cache-Control": "private, max-age=3600"}
        if published.tag in tags_of(if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(published.body, headers=headers, media_type=JSON)


def workflow_schema_router() -> APIRouter:
    """The route of the schema."""
    router = APIRouter(route_class=StrictRoute, tags=["workflows"])
    router.get(
        "/v1/schemas/workflow.json",
        operation_id="get_workflow_schema",
        summary="JSON Schema of workflow documents",
        response_class=Response,
        responses={
            200: {
                "description": "A JSON Schema (2020-12)",
                "content": {JSON: {"schema": {"type": "object"}, "example": _EXAMPLE}},
                "headers": bodyless("", headers=("ETag",))["headers"],
            },
            304: bodyless("The caller has it already", headers=("ETag",)),
            **problems(403, 422),
        },
    )(WorkflowSchema().get)
    return router


def _publish() -> _Published:
    body = schema_json(STEP_KINDS).encode()
    return _Published(body, f'"{sha256(body).hexdigest()[:32]}"')
