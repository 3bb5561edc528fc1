"""Plans of runs over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import CanSubmitRuns
from app.api.bodies import StrictRoute, located, placed
from app.api.problems import problem_entry
from app.api.responses import problems, success
from app.api.services import Services
from app.api.v1.rendering import JSON
from app.api.v1.schemas.plans import Plan, PlanWorkflow
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.prices import dollars
from app.ports.problems import Problem
from app.services.plan_views import Bounds, PlannedStep, WorkflowPlan
from app.services.plans import PlanRequest

_AT_MOST: Final[dict[str, Any]] = {
    "attempts": 3,
    "model_calls": 3,
    "input_tokens": 957,
    "output_tokens": 600,
    "cost_usd": 0.00050355,
    "input_tokens_estimate": 8,
}
PLAN: Final[dict[str, Any]] = {
    "name": "greet",
    "version": "1.0",
    "inputs": {"who": "Ada"},
    "steps": [
        {
            "step": "greeting",
            "type": "llm",
            "depends_on": [],
            "known": "known",
            "config": {
                "provider": "openai",
                "model": "gpt-4o-mini",
                "prompt": "Greet Ada in one sentence.",
                "max_tokens": 200,
            },
            "needs": [],
            "instances": 1,
            "at_most": _AT_MOST,
            "notes": [],
        }
    ],
    "at_most": _AT_MOST,
    "budget": {"max_cost_usd": 0.01, "max_tokens": None, "on_exceeded": "fail", "verdict": "fits"},
    "unknown_prices": [],
    "warnings": [],
}


def plans_router() -> APIRouter:
    """The routes of plans."""
    router = APIRouter(route_class=StrictRoute, tags=["workflows"])
    router.post(
        "/v1/workflows/plan",
        operation_id="plan_workflow",
        summary="What a run would do and use at most",
        response_class=Response,
        responses={
            200: success("Nothing was called", Plan, PLAN),
            **problems(400, 403, 404, 413, 415, 422),
        },
    )(_plan_workflow)
    return router


async def _plan_workflow(
    request: Request, services: Services, principal: CanSubmitRuns, body: PlanWorkflow
) -> Response:
    """Renders what is known before the run, and bounds calls, tokens and cost; nothing is called or stored.

    Inputs are checked as those of a run are. `warnings` name what the service's configuration lacks, and
    vectors that do not fit what is remembered of their index.
    """
    wanted = PlanRequest(
        workflow=body.workflow,
        version=body.version,
        inputs=body.inputs,
        budget=body.budget.given() if body.budget else None,
    )
    try:
        plan = await services.plans.plan(principal, wanted)
    except (DefinitionInvalid, InputsInvalid) as error:
        raise await located(error, await request.body()) from error
    warnings: Sequence[Problem] = plan.warnings
    if not isinstance(body.workflow, str):
        warnings = await placed(warnings, await request.body(), under="/workflow")
    return Response(render_plan(plan, warnings), media_type=JSON)


def render_plan(plan: WorkflowPlan, warnings: Sequence[Problem]) -> bytes:
    """`Plan`."""
    budget = None
    if plan.budget is not None:
        budget = {
            "max_cost_usd": plan.budget.max_cost_usd,
            "max_tokens": plan.budget.max_tokens,
            "on_exceeded": plan.budget.on_exceeded,
            "verdict": plan.verdict,
        }
    body = {
        "name": plan.name,
        "version": plan.version,
        "inputs": plan.inputs,
        "steps": [_step(step) for step in plan.steps],
        "at_most": _bounds(plan.totals),
        "budget": budget,
        "unknown_prices": list(plan.unknown_prices),
        "warnings": [problem_entry(warning) for warning in warnings],
    }
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


def _step(step: PlannedStep) -> dict[str, Any]:
    return {
        "step": step.key,
        "type": step.type,
        "depends_on": list(step.depends_on),
        "known": step.known,
        "config": step.config,
        "needs": list(step.needs),
        "instances": step.instances,
        "at_most": _bounds(step.bounds),
        "notes": step.notes,
    }


def _bounds(bounds: Bounds) -> dict[str, Any]:
    return {
        "attempts": _countable(bounds.attempts),
        "model_calls": _countable(bounds.model_calls),
        "input_tokens": _countable(bounds.input_tokens),
        "output_tokens": _countable(bounds.output_tokens),
        "cost_usd": None if bounds.cost is None else dollars(bounds.cost),
        "input_tokens_estimate": _countable(bounds.input_estimate),
    }


def _countable(count: int | None) -> int | None:
    """A number that JSON readers can hold; beyond that it might as well be unknown."""
    return None if count is None or count >= 2**53 else count
