"""What a run used and what that costs: by step, by model and in all.

Every attempt counts that was answered, those included whose answers were of no use. Costs are those of the
day of the call, as the journal keeps them; a call whose price was not known then is priced as it is known
now. Where no price is known, costs are None, never less than they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from app.dsl.compiled import Budget
from app.engines.budget import bills_of, charged_so_far, limit_of
from app.engines.history import History
from app.engines.recovery import StoredRun
from app.ports.models import Usage, counted
from app.ports.prices import Prices, dollars, picodollars
from app.services.errors import RunNotFound
from app.services.principal import Principal
from app.services.run_reader import aside
from app.services.runs import RunService

MOST_CHILDREN: Final = 100
"""Called runs whose usage is read for one answer."""


@dataclass(slots=True)
class Figures:
    """Sums over calls that were answered. `cost` is in picodollars; tokens that nobody counted are None."""

    calls: int = 0
    input_tokens: int | None = 0
    output_tokens: int | None = 0
    cached_tokens: int | None = 0
    reasoning_tokens: int | None = 0
    cost: int = 0
    unpriced: set[str] = field(default_factory=set)
    """`<provider>/<model>` of calls whose price or tokens are not known."""

    def add(self, bill: Mapping[str, Any], prices: Prices) -> None:
        """Count one call as it was billed."""
        self.input_tokens = self._with(self.input_tokens, bill.get("input_tokens"))
        self.output_tokens = self._with(self.output_tokens, bill.get("output_tokens"))
        self.cached_tokens = self._with(self.cached_tokens, bill.get("cached_tokens"))
        self.reasoning_tokens = self._with(self.reasoning_tokens, bill.get("reasoning_tokens"))
        self.calls += 1
        cost = cost_of(bill, prices)
        if cost is None:
            self.unpriced.add(f"{bill['provider']}/{bill['model']}")
        else:
            self.cost += cost

    def _with(self, known: int | None, count: int | None) -> int | None:
        return count if self.calls == 0 else counted((known, count))

    @property
    def cost_usd(self) -> float | None:
        """US dollars, if every price is known."""
        return None if self.unpriced else dollars(self.cost)


@dataclass(slots=True, kw_only=True)
class StepUsage:
    """All instances of one step of the plan."""

    key: str
    type: str
    instances: int = 0
    attempts: int = 0
    figures: Figures = field(default_factory=Figures)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """All calls to one model at one instance of a provider."""

    provider: str
    model: str | None
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildUsage:
    """A run that a step called: what it used itself."""

    run_id: str
    path: str
    figures: Figures


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUsage:
    """The bounds of a run, and what counts against them: called runs, and attempts of unknown outcome."""

    limit: Budget
    tokens: int
    cost_usd: float


@dataclass(slots=True, kw_only=True)
class RunUsage:
    """What one run used itself, and beside it the runs that it called."""

    run_id: str
    attempts: int = 0
    total: Figures = field(default_factory=Figures)
    saved: Figures = field(default_factory=Figures)
    """Calls that were not made, for their outcome was known."""
    steps: Sequence[StepUsage] = ()
    models: Sequence[ModelUsage] = ()
    budget: BudgetUsage | None = None
    children: Sequence[ChildUsage] = ()
    children_omitted: int = 0


class UsageService:
    """Usage of the runs of a process."""

    def __init__(self, *, runs: RunService, prices: Prices) -> None:
        self._runs = runs
        self._prices = prices

    async def of_run(self, principal: Principal, run_id: str) -> RunUsage:
        """What it used so far. Raises `RunNotFound`, `UnreadableRun`."""
        _, stored = await self._runs.load(principal, run_id, lean=True)
        usage = await aside(stored.history, usage_of, stored, self._prices)
        called = [
            (path, step.control.child)
            for path, step in stored.history.state.steps.items()
            if step.control is not None and step.control.child is not None
        ]
        usage.children = [
            child
            for path, child_id in called[:MOST_CHILDREN]
            if (child := await self._child(principal, path, child_id)) is not None
        ]
        usage.children_omitted = len(called) - len(usage.children)
        return usage

    async def _child(self, principal: Principal, path: str, run_id: str) -> ChildUsage | None:
        """None for one that was never handed in, or is gone."""
        try:
            _, stored = await self._runs.load(principal, run_id, lean=True)
        except RunNotFound:
            return None
        usage = await aside(stored.history, usage_of, stored, self._prices)
        return ChildUsage(run_id=run_id, path=path, figures=usage.total)


def usage_of(stored: StoredRun, prices: Prices) -> RunUsage:
    """What a run used itself. Costs a pass over its attempts."""
    history, workflow = stored.history, stored.workflow
    usage = RunUsage(run_id=history.state.run_id)
    steps: dict[str, StepUsage] = {}
    models: dict[tuple[str, str | None], ModelUsage] = {}
    for path, known in history.steps.items():
        if not known.attempts:
            continue
        key = history.state.steps[path].node.key
        step = steps.setdefault(key, StepUsage(key=key, type=workflow.steps[key].type))
        step.instances += 1
        step.attempts += len(known.attempts)
        usage.attempts += len(known.attempts)
        for bill in chain.from_iterable(bills_of(attempt.billing) for attempt in known.attempts):
            at = (bill["provider"], bill["model"])
            model = models.setdefault(at, ModelUsage(provider=at[0], model=at[1], figures=Figures()))
            for figures in (step.figures, model.figures, usage.total):
                figures.add(bill, prices)
        for bill in bills_of((known.source or {}).get("saved")):
            usage.saved.add(bill, prices)
    usage.steps, usage.models = tuple(steps.values()), tuple(models.values())
    usage.budget = _budget(stored, history)
    return usage


def cost_of(bill: Mapping[str, Any], prices: Prices) -> int | None:
    """Picodollars of one billed call; None where the price or the tokens are not known."""
    known = bill.get("cost_usd")
    if known is not None:
        return picodollars(known)
    price = prices.of(bill["provider"], bill["model"] or "")
    if price is None:
        return None
    return price.cost(
        Usage(
            input_tokens=bill.get("input_tokens"),
            output_tokens=bill.get("output_tokens"),
            cached_tokens=bill.get("cached_tokens"),
        )
    )


def _budget(stored: StoredRun, history: History) -> BudgetUsage | None:
    limit = limit_of(stored.workflow.budget, history)
    if limit is None:
        return None
    charged = charged_so_far(history)
    return BudgetUsage(limit=limit, tokens=charged.tokens, cost_usd=dollars(charged.cost))
