"""Use case: what a run would do and use, without calling anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.dsl.catalog import Catalog
from app.dsl.compiled import Budget, CompiledStep, CompiledWorkflow
from app.engines.account import Accounting
from app.engines.budget import asked_budget, tightened
from app.engines.embedding import embedding_model
from app.ports.errors import TemplateFailed
from app.ports.prices import picodollars
from app.ports.problems import Problem
from app.ports.runs import Store
from app.services.configured import Configured
from app.services.definitions import Definitions, compile_aside
from app.services.index_checks import broken_contracts
from app.services.plan_views import PlannedStep, Verdict, WorkflowPlan
from app.services.planner import Planner
from app.services.principal import Principal
from app.services.workflows import not_registered
from app.steps.fallbacks import written_candidates
from app.templating.renderer import Renderer


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What would run. `workflow` is a definition (a JSON object) or the name of a registered one."""

    workflow: Mapping[str, Any] | str
    version: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    budget: Mapping[str, Any] | None = None
    """Fields of `app.dsl.compiled.Budget`."""


class PlanService:
    """Plans of a process."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        definitions: Definitions,
        renderer: Renderer,
        configured: Configured,
        accounting: Accounting,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._definitions = definitions
        self._renderer = renderer
        self._configured = configured
        self._accounting = accounting

    async def plan(self, principal: Principal, request: PlanRequest) -> WorkflowPlan:
        """Nothing is stored or called. Raises `WorkflowNotFound`, `DefinitionInvalid`, `InputsInvalid`."""
        workflow = await self._workflow(principal, request)
        inputs = workflow.validate_inputs(request.inputs)
        budget = tightened(workflow.budget, asked_budget(request.budget, workflow.budget))
        planner = Planner(
            workflow,
            renderer=self._renderer,
            prices=self._accounting.prices,
            max_tokens=None if budget is None else self._accounting.max_tokens,
        )
        await planner.walk(inputs)
        return WorkflowPlan(
            name=workflow.name,
            version=workflow.version,
            inputs=inputs,
            steps=planner.steps,
            totals=planner.totals,
            unknown_prices=sorted(planner.unknown_prices),
            budget=budget,
            verdict=None if budget is None else verdict_of(budget, planner),
            warnings=[
                *self._configured.unknown_names(workflow.document),
                *workflow.warnings,
                *self._keyless(workflow, planner),
                *await self._broken_contracts(workflow, planner.steps, inputs),
            ],
        )

    async def _workflow(self, principal: Principal, request: PlanRequest) -> CompiledWorkflow:
        if not isinstance(request.workflow, str):
            return await compile_aside(self._catalog, request.workflow)
        workflows = self._store.workflows
        row = await workflows.get(principal.tenant, request.workflow, request.version)
        if row is None:
            raise await not_registered(workflows, principal.tenant, request.workflow, request.version)
        return await self._definitions.workflow(row.definition_hash)

    async def _broken_contracts(
        self, workflow: CompiledWorkflow, steps: Sequence[PlannedStep], inputs: Mapping[str, Any]
    ) -> list[Problem]:
        async def model_of(step: CompiledStep) -> str | None:
            try:
                return await embedding_model(self._renderer, step, {"inputs": inputs, "input": inputs})
            except TemplateFailed:
                return None

        return await broken_contracts(self._store.index_contracts, workflow, steps, model_of)

    def _keyless(self, workflow: CompiledWorkflow, planner: Planner) -> list[Problem]:
        configs = [step.config for step in planner.steps if isinstance(step.config, Mapping)]
        named = [one.get("provider") for config in configs for one in written_candidates(config) or [config]]
        used = {name for name in named if isinstance(name, str)}
        return self._configured.without_keys(workflow.document, used)


def verdict_of(budget: Budget, planner: Planner) -> Verdict:
    """Whether the run can exceed its budget."""
    totals = planner.totals
    most = None if budget.max_cost_usd is None else picodollars(budget.max_cost_usd)
    tokens = None
    if totals.input_tokens is not None and totals.output_tokens is not None:
        tokens = totals.input_tokens + totals.output_tokens
    if (budget.max_tokens is not None and planner.largest_call > budget.max_tokens) or (
        most is not None and planner.largest_cost > most
    ):
        return "exceeds"
    unknown = (budget.max_tokens is not None and tokens is None) or (most is not None and totals.cost is None)
    if most is not None and planner.unknown_prices:
        return "unpriced"
    if unknown:
        return "unknown"
    fits = (budget.max_tokens is None or (tokens or 0) <= budget.max_tokens) and (
        most is None or (totals.cost or 0) <= most
    )
    return "fits" if fits else "may_exceed"
