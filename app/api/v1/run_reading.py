"""What a reader asks of a run over HTTP: why a step is where it is, graphs, the difference of two runs."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from app.api.auth import CanReadRuns, CanReadWorkflows
from app.api.bodies import StrictRoute
from app.api.negotiation import tags_of
from app.api.responses import Responses, bodyless, problems, success
from app.api.services import Services
from app.api.v1 import run_reading_examples as examples
from app.api.v1.parameters import IfNoneMatch, RunId, VersionPath, WorkflowPath
from app.api.v1.rendering import JSON
from app.api.v1.run_reading_rendering import render_diff, render_explanation, render_graph
from app.api.v1.runs import known_seq, validators
from app.api.v1.schemas.run_reading import RunDiff, RunGraph, StepExplanation, WorkflowGraph
from app.api.v1.schemas.runs import MAX_PATH, RUN_ID
from app.ports.turns import computed
from app.services.graphs import PARTS_SHOWN
from app.services.workflows import entity_tag

MOST_PARTS: Final = 100
StepPath = Annotated[
    str,
    Path(min_length=1, max_length=MAX_PATH, description="Path of the step", examples=["each[3].summarise"]),
]
Parts = Annotated[
    int, Query(ge=0, le=MOST_PARTS, description="Items and iterations of each step that become nodes")
]
OtherRunId = Annotated[
    str,
    Path(
        pattern=RUN_ID,
        description="Id of the run to compare with",
        examples=["0197d6a0-7c1e-7000-8000-000000000002"],
    ),
]


def run_reading_router() -> APIRouter:
    """The routes that answer questions about runs."""
    router = APIRouter(route_class=StrictRoute)
    refusals = problems(403, 404, 422)
    router.get(
        "/v1/runs/{run_id}/steps/{path:path}/why",
        operation_id="explain_step",
        summary="Why a step is where it is",
        tags=["runs"],
        response_class=Response,
        responses={
            200: success("The reason, and what caused it", StepExplanation, examples.EXPLANATION),
            **refusals,
        },
    )(_explain_step)
    router.get(
        "/v1/runs/{run_id}/graph",
        operation_id="get_run_graph",
        summary="Draw a run",
        tags=["runs"],
        response_class=Response,
        responses={**_graph(RunGraph, examples.RUN_GRAPH), **refusals},
    )(_get_run_graph)
    router.get(
        "/v1/runs/{run_id}/diff/{other_id}",
        operation_id="diff_runs",
        summary="Compare two runs",
        tags=["runs"],
        response_class=Response,
        responses={200: success("What is different", RunDiff, examples.RUN_DIFF), **refusals},
    )(_diff_runs)
    router.get(
        "/v1/workflows/{name}/versions/{version}/graph",
        operation_id="get_workflow_graph",
        summary="Draw a version of a workflow",
        tags=["workflows"],
        response_class=Response,
        responses={**_graph(WorkflowGraph, examples.WORKFLOW_GRAPH), **refusals},
    )(_get_workflow_graph)
    return router


def _graph(model: type[WorkflowGraph], example: Any) -> Responses:
    return {
        200: success("Its steps and how they depend on each other", model, example, headers=("ETag",)),
        304: bodyless("The caller has it already", headers=("ETag",)),
    }


async def _explain_step(
    services: Services, principal: CanReadRuns, run_id: RunId, path: StepPath
) -> Response:
    """For every state a step can be in, also for one that is not there yet because its block was not opened.

    `caused_by` goes back to the roots: a skipped step names the failure that it was skipped for.
    """
    answer = await services.reading.why(principal, run_id, path)
    return Response(render_explanation(answer), media_type=JSON)


async def _get_run_graph(
    *,
    services: Services,
    principal: CanReadRuns,
    run_id: RunId,
    parts: Parts = PARTS_SHOWN,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Nodes in groups, edges, and the state of every step. The `ETag` changes with every event of the run.

    Of a map's items and a loop's iterations the first `parts` become nodes, and as many that failed; all
    are counted.
    """
    marks = [f"graph-{parts}"]
    known = known_seq(if_none_match, marks)
    if known and await services.runs.is_at(principal, run_id, known):
        return Response(status_code=304, headers=validators(known, marks))
    row, stored, graph = await services.reading.graph(principal, run_id, parts=parts)
    seq = stored.history.seq
    head = {
        "run_id": row.id,
        "workflow": row.workflow,
        "version": row.version,
        "status": stored.history.status,
        "seq": seq,
    }
    body = await computed(render_graph, head, graph)
    return Response(body, headers=validators(seq, marks), media_type=JSON)


async def _diff_runs(
    services: Services, principal: CanReadRuns, run_id: RunId, other_id: OtherRunId
) -> Response:
    """Definition, inputs, outputs, status, tokens and latency, as a whole and by step.

    Rendered prompts are not stored: the definition tells which templates differ, `rendered` of a step
    whether what was sent does. Values are cut and changes are counted out past a bound.
    """
    diff = await services.reading.diff(principal, run_id, other_id)
    return Response(await computed(render_diff, diff), media_type=JSON)


async def _get_workflow_graph(
    services: Services,
    principal: CanReadWorkflows,
    name: WorkflowPath,
    version: VersionPath,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The same shape as a run's, without state."""
    graph, definition_hash = await services.reading.workflow_graph(principal, name, version)
    tag = entity_tag(definition_hash)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in tags_of(if_none_match):
        return Response(status_code=304, headers=headers)
    body = render_graph({"workflow": name, "version": version}, graph)
    return Response(body, headers=headers, media_type=JSON)
