"""Recordings of runs over HTTP."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from app.api.auth import CanReadRuns
from app.api.bodies import StrictRoute
from app.api.responses import problems, success
from app.api.services import Services
from app.api.v1 import bulk_examples as examples
from app.api.v1.parameters import RunId
from app.api.v1.rendering import JSON
from app.api.v1.schemas.fixtures import ExportFixture
from app.engines.recording import Recording


def fixtures_router() -> APIRouter:
    """The route of recordings."""
    router = APIRouter(route_class=StrictRoute, tags=["runs"])
    router.post(
        "/v1/runs/{run_id}/fixture",
        operation_id="export_fixture",
        summary="Export a finished run as a recording",
        response_class=Response,
        responses={
            200: success("The recording", Recording, examples.RECORDING),
            **problems(400, 403, 404, 409, 413, 415, 422),
        },
    )(_export_fixture)
    return router


async def _export_fixture(
    services: Services, principal: CanReadRuns, run_id: RunId, body: ExportFixture | None = None
) -> Response:
    """Inputs, prompts and answers of a run, without secrets, for `llm-orchestrator test`. Stores nothing."""
    redact = [] if body is None else body.redact
    text = await services.fixtures.export(principal, run_id, redact=redact)
    return Response(text, media_type=JSON)
