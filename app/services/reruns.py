"""Use cases around repeating a run: try it again, or run it anew with changes.

Both make a new run whose parent the earlier one is; what happened is never rewritten. Steps that would do
what they did there take its outcomes (`app.engines.reuse`). What does not belong here: how that is found
out, and HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.core.plan import Plan, all_nodes
from app.dsl.blocks import item_run_key
from app.dsl.compiled import CompiledWorkflow
from app.dsl.spelling import Speller
from app.engines.budget import budget_of
from app.engines.engine import Submission
from app.engines.fresh_steps import AmbiguousStep, downstream, handlers, place_of, steps_named
from app.engines.history import History
from app.engines.recovery import StoredRun
from app.ports.clock import Clock
from app.ports.problems import Problem
from app.ports.runs import RunRow, Store
from app.services.definitions import Definitions
from app.services.errors import RunHasCompleted, RunNotEnded, UnknownStep
from app.services.idempotency import IdempotencyKey
from app.services.principal import Principal
from app.services.run_labels import check_labels
from app.services.runs import Accepted, Receipt, RunService, new_run_id
from app.services.workflows import not_registered

MAX_COMPARISONS = 10_000
"""Step names that are looked at for a hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RerunRequest:
    """What is to be different; None: as it was."""

    start: str | None = None
    """A step (by path, or by an id that one step alone has) that runs again with all that comes after it."""
    inputs: Mapping[str, Any] | None = None
    version: str | None = None
    labels: Mapping[str, str] | None = None
    priority: int | None = None


class RerunService:
    """Repeats runs of a process."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        runs: RunService,
        definitions: Definitions,
        new_id: Callable[[], str] = new_run_id,
    ) -> None:
        self._store = store
        self._clock = clock
        self._runs = runs
        self._definitions = definitions
        self._new_id = new_id

    async def retry(
        self, principal: Principal, run_id: str, receipt: Receipt, key: IdempotencyKey | None = None
    ) -> Accepted:
        """The same again, from where it failed: a new run of the same definition and inputs.

        Raises `RunNotFound`, `RunNotEnded`, `RunHasCompleted`, and as `RunService.submit`.
        """

        async def prepare() -> tuple[Submission, CompiledWorkflow]:
            row, stored = await self._ended(principal, run_id)
            if stored.history.status == "completed":
                raise RunHasCompleted(
                    f"run {run_id!r} has completed: nothing in it failed; rerun it, from a step if you like"
                )
            fresh = handlers(stored.workflow.written_plan)
            run = self._repeated(row, stored.workflow, RerunRequest())
            inputs = stored.history.inputs
            return self._submission(run, stored.workflow, inputs, stored.history, fresh), stored.workflow

        return await self._runs.accept(principal, prepare, receipt, key)

    async def rerun(
        self,
        principal: Principal,
        run_id: str,
        request: RerunRequest,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
    ) -> Accepted:
        """Run it anew with changes. Raises `RunNotFound`, `RunNotEnded`, `UnknownStep`, and as `submit`."""

        async def prepare() -> tuple[Submission, CompiledWorkflow]:
            check_labels(request.labels)
            row, stored = await self._ended(principal, run_id)
            workflow = await self._workflow(principal, row, stored, request.version)
            fresh = handlers(workflow.written_plan)
            if request.start is not None:
                fresh |= _after(workflow, request.start)
            given = stored.history.inputs if request.inputs is None else request.inputs
            inputs = workflow.validate_inputs(given)
            run = self._repeated(row, workflow, request)
            return self._submission(run, workflow, inputs, stored.history, fresh), workflow

        return await self._runs.accept(principal, prepare, receipt, key)

    async def _ended(self, principal: Principal, run_id: str) -> tuple[RunRow, StoredRun]:
        row, stored = await self._runs.load(principal, run_id)
        if not stored.history.state.terminal:
            raise RunNotEnded(
                f"run {run_id!r} is {stored.history.status}; wait for its end or cancel it, then ask again"
            )
        return row, stored

    async def _workflow(
        self, principal: Principal, row: RunRow, stored: StoredRun, version: str | None
    ) -> CompiledWorkflow:
        if version is None:
            return stored.workflow
        found = await self._store.workflows.get(principal.tenant, row.workflow, version)
        if found is None:
            raise await not_registered(self._store.workflows, principal.tenant, row.workflow, version)
        workflow = await self._definitions.workflow(found.definition_hash)
        item = stored.workflow.item
        return workflow if item is None else _items_of(workflow, item.map)

    def _repeated(self, row: RunRow, workflow: CompiledWorkflow, request: RerunRequest) -> RunRow:
        return RunRow(
            id=self._new_id(),
            tenant=row.tenant,
            workflow=workflow.name,
            version=workflow.version,
            status="pending",
            definition_hash=workflow.definition.hash,
            priority=row.priority if request.priority is None else request.priority,
            labels=row.labels if request.labels is None else request.labels,
            created_at=round(self._clock.now(), 6),
            parent_run_id=row.id,
        )

    def _submission(
        self,
        run: RunRow,
        workflow: CompiledWorkflow,
        inputs: Mapping[str, Any],
        earlier: History,
        fresh: frozenset[str],
    ) -> Submission:
        return Submission(
            run=run,
            definition=workflow.definition,
            inputs=inputs,
            timeout_seconds=earlier.timeout,
            budget=budget_of(earlier.submitted.get("budget")),
            reuse=run.parent_run_id,
            fresh=fresh,
        )


def _items_of(workflow: CompiledWorkflow, step: str) -> CompiledWorkflow:
    """What a version does with an item of a map. Raises `UnknownStep`."""
    found = workflow.item_workflows.get(item_run_key(step))
    if found is None:
        detail = f"the run is that of an item, and {workflow.version!r} has no distributed map {step!r}"
        hint = "rerun the run that the item belongs to"
        problem = Problem(pointer="/version", detail=detail, hint=hint)
        raise UnknownStep(f"{detail}: {hint}", problems=[problem])
    return found


def _after(workflow: CompiledWorkflow, start: str) -> frozenset[str]:
    """The step that `from` names, and all that comes after it. Raises `UnknownStep`."""
    plan = workflow.written_plan
    try:
        keys = steps_named(plan, start)
    except AmbiguousStep as error:
        detail = f"several steps are called {start!r}"
        raise _unknown(detail, f"write {error.places[0]!r} for the first of them") from error
    if not keys:
        detail = f"workflow {workflow.name!r} has no step {start!r} in version {workflow.version!r}"
        raise _unknown(detail, _hint(plan, start))
    return frozenset(key for one in keys for key in downstream(plan, one))


def _hint(plan: Plan, name: str) -> str:
    places = list(dict.fromkeys(place_of(node.key) for node in all_nodes(plan)))
    near = Speller(MAX_COMPARISONS).hint(name, places)
    return near or "name a step by its id, and one within another as <that one>.<id>"


def _unknown(detail: str, hint: str) -> UnknownStep:
    problem = Problem(pointer="/from", detail=detail, hint=hint)
    return UnknownStep(f"{detail}: {hint}", problems=[problem])
