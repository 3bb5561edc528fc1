"""What runs used, over HTTP."""

from __future__ import annotations

from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.responses import Response

from app.api.auth import CanReadRuns
from app.api.bodies import StrictRoute
from app.api.responses import problems, success
from app.api.services import Services
from app.api.v1.parameters import RunId
from app.api.v1.rendering import JSON, run_path
from app.api.v1.schemas import usage as schemas
from app.services.usage import BudgetUsage, ChildUsage, Figures, RunUsage

_FIGURES: Final[dict[str, Any]] = {
    "calls": 2,
    "input_tokens": 900,
    "output_tokens": 240,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "cost_usd": 0.000279,
}
_NOTHING: Final[dict[str, Any]] = {**dict.fromkeys(_FIGURES, 0), "cost_usd": 0.0}
USAGE: Final[dict[str, Any]] = {
    "run_id": "0197d6a0-7c1e-7000-8000-000000000000",
    "total": {**_FIGURES, "attempts": 3},
    "saved": _NOTHING,
    "steps": [{"step": "each.summarise", "type": "llm", "instances": 2, "attempts": 3, **_FIGURES}],
    "models": [{"provider": "openai", "model": "gpt-4o-mini-2024-07-18", **_FIGURES}],
    "children": [],
    "children_omitted": 0,
    "unknown_prices": [],
    "budget": {
        "max_cost_usd": 0.05,
        "max_tokens": None,
        "on_exceeded": "fail",
        "charged_tokens": 1140,
        "charged_cost_usd": 0.000279,
    },
}


def usage_router() -> APIRouter:
    """The routes of usage."""
    router = APIRouter(route_class=StrictRoute, tags=["runs"])
    router.get(
        "/v1/runs/{run_id}/usage",
        operation_id="get_run_usage",
        summary="What a run used and what it costs",
        response_class=Response,
        responses={
            200: success("Tokens and cost by step and by model", schemas.RunUsage, USAGE),
            **problems(403, 404, 422),
        },
    )(_get_run_usage)
    return router


async def _get_run_usage(services: Services, principal: CanReadRuns, run_id: RunId) -> Response:
    """Tokens and costs so far, by step, by model and in all.

    A cost is null where a price is not known; `unknown_prices` says which. Prices are list prices, or those
    that the operator set.
    """
    return Response(render_usage(await services.usage.of_run(principal, run_id)), media_type=JSON)


def render_usage(usage: RunUsage) -> bytes:
    """`RunUsage`."""
    figures = [usage.total, usage.saved, *(child.figures for child in usage.children)]
    body = {
        "run_id": usage.run_id,
        "total": {**_figures(usage.total), "attempts": usage.attempts},
        "saved": _figures(usage.saved),
        "steps": [
            {
                "step": step.key,
                "type": step.type,
                "instances": step.instances,
                "attempts": step.attempts,
                **_figures(step.figures),
            }
            for step in usage.steps
        ],
        "models": [
            {"provider": model.provider, "model": model.model, **_figures(model.figures)}
            for model in usage.models
        ],
        "children": [_child(child) for child in usage.children],
        "children_omitted": usage.children_omitted,
        "unknown_prices": sorted(set().union(*(one.unpriced for one in figures))),
        "budget": None if usage.budget is None else _budget(usage.budget),
    }
    return orjson.dumps(body)


def _figures(figures: Figures) -> dict[str, Any]:
    return {
        "calls": figures.calls,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cached_tokens": figures.cached_tokens,
        "reasoning_tokens": figures.reasoning_tokens,
        "cost_usd": figures.cost_usd,
    }


def _child(child: ChildUsage) -> dict[str, Any]:
    path = run_path(child.run_id)
    links = {"run": path, "usage": path + "/usage"}
    return {"run_id": child.run_id, "path": child.path, **_figures(child.figures), "links": links}


def _budget(budget: BudgetUsage) -> dict[str, Any]:
    return {
        "max_cost_usd": budget.limit.max_cost_usd,
        "max_tokens": budget.limit.max_tokens,
        "on_exceeded": budget.limit.on_exceeded,
        "charged_tokens": budget.tokens,
        "charged_cost_usd": budget.cost_usd,
    }
