"""Walks a workflow with its inputs, without calling anybody: renders what is known, bounds what is not.

Nothing is expanded: the steps of a map count once for each item and are shown for its largest one. What
depends on the outputs of other steps is not known, and neither is a called workflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, cast

import orjson
from pydantic import ValidationError

from app.core.plan import Block, Branch, Child, Loop, Map, Node, Parallel
from app.dsl.blocks import item_run_key
from app.dsl.compiled import CompiledStep, CompiledWorkflow
from app.engines.attempts import as_failure
from app.engines.pace import Pace
from app.ports.errors import CallError, TemplateFailed
from app.ports.prices import Prices
from app.services.plan_views import Bounds, Known, PlannedStep, times
from app.steps.base import BaseKind
from app.steps.bounds import CallBound
from app.steps.fallbacks import written_candidates
from app.steps.kind import StepKind
from app.steps.repair import written_repairs
from app.templating.compiler import Compiled, Part, compile_expression, compile_value
from app.templating.names import Reference
from app.templating.renderer import Renderer

MOST_SHOWN: Final = 1024 * 1024
"""Bytes of rendered configurations in one plan."""
MOST_SECONDS: Final = 10.0
"""After this nothing more is rendered: a template takes its time in a worker that the runs need, too."""
MOST_CALLS: Final = 10**15
"""Counts beyond it are as good as unknown, and no number for JSON."""


class Planner:
    """One plan in the making. `max_tokens` bounds answers for which the document names no bound."""

    def __init__(
        self,
        workflow: CompiledWorkflow,
        *,
        renderer: Renderer,
        prices: Prices,
        max_tokens: int | None,
        seconds: float = MOST_SECONDS,
    ) -> None:
        self.steps: list[PlannedStep] = []
        self.totals = Bounds()
        self.unknown_prices: set[str] = set()
        self.largest_call = 0
        self.largest_cost = 0
        """Of one attempt with all the calls it may make, where their bounds are known."""
        self._workflow = workflow
        self._renderer = renderer
        self._prices = prices
        self._max_tokens = max_tokens
        self._pace = Pace()
        self._until = asyncio.get_running_loop().time() + seconds
        self._room = MOST_SHOWN

    async def walk(self, inputs: Mapping[str, Any]) -> None:
        """Plan every step, in order."""
        plan = self._workflow.written_plan
        for block in (plan.main, plan.on_failure, plan.finally_):
            if block is not None:
                await self._block(block, {"inputs": inputs, "input": inputs}, 1, sample=False)

    # --- structure ------------------------------------------------------------------------------------

    async def _block(
        self, block: Block, names: Mapping[str, Any], count: int | None, *, sample: bool
    ) -> None:
        for node in block.nodes:
            await self._pace.keep()
            step = self._workflow.steps[node.key]
            planned, rendered = await self._step(node, step, names, count, sample=sample)
            self.steps.append(planned)
            self.totals.add(planned.bounds)
            await self._within(node, step, rendered, names, planned, sample=sample)

    async def _within(
        self,
        node: Node,
        step: CompiledStep,
        rendered: Any,
        names: Mapping[str, Any],
        planned: PlannedStep,
        *,
        sample: bool,
    ) -> None:
        count = planned.instances
        whole = planned.known in {"known", "sample"}
        match node.control:
            case Branch(cases=cases, default=default):
                chosen = self._checked(step, rendered, planned) if whole else None
                name = None if chosen is None else chosen.condition
                for case, body in cases.items():
                    taken = 1 if chosen is None or case == name else 0
                    await self._block(body, names, times(count, taken), sample=sample)
                if default is not None:
                    taken = 1 if chosen is None or name not in cases else 0
                    await self._block(default, names, times(count, taken), sample=sample)
            case Parallel(body=body):
                await self._block(body, names, count, sample=sample)
            case Loop(body=body, max_iterations=most):
                await self._block(body, names, times(count, most), sample=sample)
            case Map(body=body):
                mapped = self._checked(step, rendered, planned) if whole else None
                items = None if mapped is None else mapped.items
                if item_run_key(step.key) in self._workflow.item_workflows:
                    planned.notes.append("each item is a run of its own")
                if not items:
                    await self._block(body, names, times(count, None if items is None else 0), sample=sample)
                    return
                place = max(range(len(items)), key=lambda index: _size(items[index]))
                planned.notes.append(f"{len(items):,} items; the steps within are shown for the largest one")
                inner = {**names, step.item_name: items[place], "index": place}
                await self._block(body, inner, times(count, len(items)), sample=True)
            case Child():
                planned.notes.append("what the called workflow uses is not part of this plan")
            case _:
                pass

    def _checked(self, step: CompiledStep, rendered: Any, planned: PlannedStep) -> Any:
        try:
            return step.kind.config_model.of_rendered(rendered)
        except ValidationError as error:
            planned.notes.append(as_failure(error).message)
            return None

    # --- one step -------------------------------------------------------------------------------------

    async def _step(
        self,
        node: Node,
        step: CompiledStep,
        names: Mapping[str, Any],
        count: int | None,
        *,
        sample: bool,
    ) -> tuple[PlannedStep, Any]:
        notes: list[str] = []
        if await self._is_closed(step, names, notes):
            count = 0
        rendered, needs, failed = await self._render(step.config, names, notes)
        known: Known = "sample" if sample else "known"
        if needs or failed:
            known = "partly" if len(needs) + failed < len(step.config.parts) else "unknown"
        planned = PlannedStep(
            key=step.key,
            type=step.type,
            depends_on=node.depends_on,
            known=known,
            config=self._shown(rendered, notes),
            needs=sorted({str(need) for part in needs for need in _missing(part, names)}),
            instances=count if count is None or count <= MOST_CALLS else None,
            notes=notes,
        )
        if node.control is None:
            planned.bounds = self._bounds(node, step, rendered, planned)
        elif isinstance(node.control, Child) and count != 0:
            planned.bounds = Bounds(
                attempts=None, model_calls=None, input_tokens=None, output_tokens=None, cost=None
            )
            planned.bounds.input_estimate = None
        return planned, rendered

    async def _is_closed(self, step: CompiledStep, names: Mapping[str, Any], notes: list[str]) -> bool:
        gate = step.condition
        if gate is None or self._is_late() or any(_missing(part, names) for part in gate.parts):
            return False
        try:
            closed = not await self._renderer.render(gate, names)
        except TemplateFailed as error:
            notes.append(f"its condition cannot be evaluated: {error}")
            return False
        if closed:
            notes.append("its condition does not hold, so it does not run")
        return closed

    async def _render(
        self, config: Compiled, names: Mapping[str, Any], notes: list[str]
    ) -> tuple[Any, list[Part], int]:
        """The configuration with None for what is not known, the templates that is true of, and how many
        others cannot be rendered."""
        values: list[Any] = []
        needs: list[Part] = []
        failed = 0
        for part in config.parts:
            await self._pace.keep()
            if _missing(part, names):
                needs.append(part)
                values.append(None)
                continue
            if self._is_late():
                notes.append(f"{part.pointer or 'it'} is not rendered: those before took too long")
                values.append(None)
                failed += 1
                continue
            try:
                values.append(await self._renderer.render(_alone(part), names))
            except TemplateFailed as error:
                notes.append(f"{part.pointer or 'it'} cannot be rendered: {error}")
                values.append(None)
                failed += 1
        return config.assemble(values), needs, failed

    def _is_late(self) -> bool:
        return asyncio.get_running_loop().time() >= self._until

    def _shown(self, rendered: Any, notes: list[str]) -> Any:
        self._room -= _size(rendered)
        if self._room < 0:
            notes.append("too much to be shown; plan fewer steps or shorter inputs")
            return None
        return rendered

    # --- bounds ---------------------------------------------------------------------------------------

    def _bounds(self, node: Node, step: CompiledStep, rendered: Any, planned: PlannedStep) -> Bounds:
        instances = planned.instances
        attempts = times(instances, node.retry.max_attempts)
        kind = cast("StepKind", step.kind)  # control steps make no attempts
        bound: object = type(kind).bound
        if bound is BaseKind.bound or attempts == 0:
            return Bounds(attempts=attempts)
        calls = self._calls(kind, step, rendered, planned)
        if calls is None:
            return Bounds(
                attempts=attempts,
                model_calls=times(attempts, _most_calls(rendered)),
                input_tokens=None,
                output_tokens=times(attempts, self._output_of(rendered)),
                cost=0 if self._is_free(rendered) else None,
                input_estimate=None,
            )
        whole = Bounds(attempts=attempts, model_calls=times(attempts, len(calls)))
        attempt = Bounds()
        for call in calls:
            attempt.add(self._of_call(call))
        self.largest_call = max(self.largest_call, (attempt.input_tokens or 0) + (attempt.output_tokens or 0))
        self.largest_cost = max(self.largest_cost, attempt.cost or 0)
        whole.add(
            Bounds(
                input_tokens=times(attempts, attempt.input_tokens),
                output_tokens=times(attempts, attempt.output_tokens),
                cost=times(attempts, attempt.cost),
                input_estimate=times(instances, attempt.input_estimate),
            )
        )
        if planned.known == "sample":
            whole.input_tokens = None  # the largest item need not make the longest prompt
            whole.cost = 0 if whole.cost == 0 else None
        return whole

    def _calls(
        self, kind: StepKind, step: CompiledStep, rendered: Any, planned: PlannedStep
    ) -> list[CallBound] | None:
        if planned.known not in {"known", "sample"}:
            return None
        config = self._checked(step, rendered, planned)
        if config is None:
            return None
        try:
            return list(kind.bound(config, max_tokens=self._max_tokens))
        except CallError as error:
            planned.notes.append(str(error))
            return None

    def _of_call(self, call: CallBound) -> Bounds:
        price = self._prices.of(call.provider, call.model)
        if price is None:
            self.unknown_prices.add(f"{call.provider}/{call.model}")
        read, written = call.input_tokens, call.output_tokens
        cost = None
        if price is not None and read is not None and written is not None:
            cost = price.at_most(read, written)
        return Bounds(input_tokens=read, output_tokens=written, cost=cost, input_estimate=call.input_estimate)

    def _output_of(self, rendered: Any) -> int | None:
        """What bounds the answers of a step whose question is not known."""
        if not isinstance(rendered, Mapping):
            return self._max_tokens
        candidates = written_candidates(rendered)
        if candidates is None:
            return None
        own = _whole(rendered.get("max_tokens"), self._max_tokens)
        limits = [_whole(candidate.get("max_tokens"), own) for candidate in candidates]
        known = [limit for limit in limits if limit is not None]
        return sum(known) * (1 + written_repairs(rendered)) if len(known) == len(limits) else None

    def _is_free(self, rendered: Any) -> bool:
        candidates = written_candidates(rendered) if isinstance(rendered, Mapping) else None
        free = [self._costs_nothing(one) for one in candidates or ()]
        return candidates is not None and all(free)

    def _costs_nothing(self, candidate: Mapping[str, Any]) -> bool:
        provider, model = candidate.get("provider"), candidate.get("model")
        if not isinstance(provider, str) or not isinstance(model, str):
            return False
        price = self._prices.of(provider, model)
        if price is None:
            self.unknown_prices.add(f"{provider}/{model}")
        return price is not None and price.at_most(1, 1) == 0


def _most_calls(rendered: Any) -> int | None:
    """Calls of one attempt of a step whose question is not known."""
    if not isinstance(rendered, Mapping):
        return 1
    candidates = written_candidates(rendered)
    return None if candidates is None else len(candidates) * (1 + written_repairs(rendered))


def _whole(value: Any, default: int | None) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _missing(part: Part, names: Mapping[str, Any]) -> list[str]:
    """What a template reads that is not known."""
    return [_written(reference) for reference in part.loaded.references if reference.root not in names]


def _written(reference: Reference) -> str:
    return ".".join((reference.root, *reference.parts))


def _alone(part: Part) -> Compiled:
    """One template of a value, to be rendered by itself."""
    compiled = compile_value if part.use == "field" else compile_expression
    return compiled(part.source, extra_names=part.names.extra)


def _size(value: Any) -> int:
    return len(orjson.dumps(value, default=str))
