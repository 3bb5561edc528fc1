"""`llm-orchestrator plan`: what a document would render, call and use at most; nobody is called.

The same planner as the service's, over the settings of this machine. What a plan says is decided there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from app.api.v1.plans import render_plan
from app.bootstrap import Service
from app.configuration import redactor
from app.dsl.loader import load_document
from app.local_run import LOG_LEVEL, PRINCIPAL, advised
from app.observability.logging import configure_logging
from app.ports.errors import InputsInvalid
from app.ports.prices import dollars
from app.ports.problems import Problem
from app.services.plan_views import Bounds, PlannedStep, WorkflowPlan
from app.services.plans import PlanRequest
from app.settings import Settings

_PROMPTS: Final = ("system", "prompt", "messages", "input", "query", "expression", "url")
"""Keys of a step whose rendered values are shown."""
_LONGEST: Final = 2_000
"""Characters of one of them."""
_COLUMNS: Final = ("step", "type", "runs", "calls", "input tokens", "output tokens", "cost")


async def plan_document(
    settings: Settings, service: Service, source: bytes, inputs: Mapping[str, Any]
) -> WorkflowPlan:
    """The plan, its warnings with their places in the document; the service is closed.

    Raises `DefinitionInvalid`, `InputsInvalid`, and `StoreError` if the service cannot start.
    """
    writer = configure_logging(redaction=redactor(settings), level=LOG_LEVEL, format="console")
    try:
        document = dict(service.catalog.compile(source).document)
        await service.start()
        plan = await service.api.plans.plan(PRINCIPAL, PlanRequest(workflow=document, inputs=inputs))
    except InputsInvalid as error:
        raise InputsInvalid([advised(problem, inputs) for problem in error.problems]) from None
    finally:
        await service.close()
        await asyncio.to_thread(writer.close)
    written = load_document(source)
    return replace(plan, warnings=[_placed(one, written.locate(one.pointer)) for one in plan.warnings])


def _placed(warning: Problem, place: tuple[int, int] | None) -> Problem:
    return replace(warning, line=place[0], column=place[1]) if place and warning.pointer else warning


def plan_json(plan: WorkflowPlan) -> str:
    """As `POST /v1/workflows/plan` answers."""
    return render_plan(plan, plan.warnings).decode()


def plan_lines(plan: WorkflowPlan) -> Iterator[str]:
    """For people: a table of bounds, what is rendered, and what the plan cannot say."""
    yield f"{plan.name} {plan.version}: at most"
    rows = [_COLUMNS, *(_row(step) for step in plan.steps)]
    rows.append(("all together", "", "", *_figures(plan.totals)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        cells = [
            cell.rjust(width) if column > 1 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield ("  " + "  ".join(cells)).rstrip()
    for step in plan.steps:
        yield from _shown(step)
    if plan.budget is not None:
        yield f"budget: {_VERDICTS[plan.verdict or 'unknown']}"
    for name in plan.unknown_prices:
        yield f"the price of {name} is not known; set ORCHESTRATOR_PRICES to count it"


_VERDICTS: Final[Mapping[str, str]] = {
    "fits": "the run cannot exceed it",
    "may_exceed": "the run may reach it",
    "exceeds": "one call alone may use more than it leaves, so that call will not be made",
    "unpriced": "a model without a price is not called under it, so a run that comes to it fails",
    "unknown": "whether the run can exceed it is not known before the run",
}


def _row(step: PlannedStep) -> tuple[str, ...]:
    return (step.key, step.type, _count(step.instances), *_figures(step.bounds))


def _figures(bounds: Bounds) -> tuple[str, ...]:
    cost = "?" if bounds.cost is None else f"${dollars(bounds.cost):.6f}"
    tokens = (_count(bounds.input_tokens), _count(bounds.output_tokens))
    return (_count(bounds.model_calls), *tokens, cost)


def _count(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _shown(step: PlannedStep) -> Iterator[str]:
    """What is rendered of a step, what is missing for the rest, and what else is to be said."""
    config = step.config if isinstance(step.config, Mapping) else {}
    rendered = {key: config[key] for key in _PROMPTS if config.get(key) is not None}
    if not (rendered or step.needs or step.notes):
        return
    yield ""
    yield f"{step.key}:"
    for key, value in rendered.items():
        text = value if isinstance(value, str) else repr(value)
        yield f"  {key}: {text[:_LONGEST]}{'…' if len(text) > _LONGEST else ''}".replace("\n", "\n    ")
    if step.needs:
        yield f"  not known before the run: {', '.join(step.needs)}"
    for note in step.notes:
        yield f"  {note}"
