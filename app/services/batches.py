"""Many runs of one workflow in one request: all of them are accepted, or none is.

Everything is checked before anything is stored, and all of it, the answer under the idempotency key
included, goes out in one transaction. So a crash leaves either nothing, and the same request is new, or
everything, and the same request gets the same answer. What does not belong here: HTTP, the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.budget import asked_budget
from app.engines.engine import Engine, Submission
from app.engines.pace import Pace
from app.ports.clock import Clock
from app.ports.errors import InputsInvalid
from app.ports.problems import Problem
from app.ports.runs import RunRow, Store
from app.services.definitions import Definitions, compile_aside
from app.services.idempotency import Answer, Idempotency, IdempotencyKey, Record
from app.services.principal import Principal
from app.services.run_labels import BATCH, MOST_LABELS, LabelsRejected, own_label_problems, too_many
from app.services.runs import new_run_id
from app.services.workflows import not_registered

MOST_RUNS: Final = 10_000
MOST_PROBLEMS: Final = 100
"""Nothing more is looked for once so many are found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """What one run gets."""

    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    timeout_seconds: float | None = None
    budget: Mapping[str, Any] | None = None
    """Fields of `app.dsl.compiled.Budget`; absent ones are the document's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRequest:
    """1 to `MOST_RUNS` runs. `workflow` is a definition (a JSON object) or the name of a registered one."""

    workflow: Mapping[str, Any] | str
    version: str | None = None
    runs: Sequence[BatchRun]
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of every run; a run's own win."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was accepted. Every run bears its id as its label `batch`; `run_ids` are in order."""

    id: str
    run_ids: Sequence[str]


Receipt = Callable[[Batch], Answer]


class BatchService:
    """Batches of a process."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        catalog: Catalog,
        clock: Clock,
        idempotency: Idempotency,
        definitions: Definitions,
        new_id: Callable[[], str] = new_run_id,
    ) -> None:
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._clock = clock
        self._idempotency = idempotency
        self._definitions = definitions
        self._new_id = new_id

    async def submit(
        self,
        principal: Principal,
        request: BatchRequest,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """Accept all runs; the answer, and whether it was given before.

        Raises `LabelsRejected`, `WorkflowNotFound`, `DefinitionInvalid`, `InputsInvalid` (pointers begin with
        `/runs/N`), `IdempotencyKeyReused`, `IdempotencyKeyInUse`, `Overloaded`, `Draining`,
        `StoreUnavailable`; then nothing is stored.
        """

        async def write(record: Record) -> Answer:
            _check_labels(request)
            workflow = await self._workflow(principal, request)
            inputs = await _checked(workflow, request.runs)
            batch = Batch(id=self._new_id(), run_ids=sorted(self._new_id() for _ in inputs))
            answer = receipt(batch)
            first, *others = await self._submissions(principal, request, workflow, batch, inputs)
            try:
                await self._engine.submit_many([replace(first, idempotency=record(answer)), *others])
            except InputsInvalid as error:
                raise InputsInvalid([_within_runs(one) for one in error.problems]) from error
            return answer

        return await self._idempotency.with_write(principal.tenant, key, write)

    async def _workflow(self, principal: Principal, request: BatchRequest) -> CompiledWorkflow:
        if not isinstance(request.workflow, str):
            return await compile_aside(self._catalog, request.workflow)
        workflows = self._store.workflows
        row = await workflows.get(principal.tenant, request.workflow, request.version)
        if row is None:
            raise await not_registered(workflows, principal.tenant, request.workflow, request.version)
        return await self._definitions.workflow(row.definition_hash)

    async def _submissions(
        self,
        principal: Principal,
        request: BatchRequest,
        workflow: CompiledWorkflow,
        batch: Batch,
        inputs: Sequence[Mapping[str, Any]],
    ) -> list[Submission]:
        pace = Pace()
        common = RunRow(
            id="",
            tenant=principal.tenant,
            workflow=workflow.name,
            version=workflow.version,
            status="pending",
            definition_hash=workflow.definition.hash,
            priority=0,
            labels={},
            created_at=round(self._clock.now(), 6),
        )
        made = []
        for run_id, asked, checked in zip(batch.run_ids, request.runs, inputs, strict=True):
            labels = {**request.labels, **asked.labels, BATCH: batch.id}
            run = replace(common, id=run_id, labels=labels, priority=asked.priority)
            made.append(
                Submission(
                    run=run,
                    definition=workflow.definition,
                    inputs=checked,
                    timeout_seconds=asked.timeout_seconds,
                    budget=asked_budget(asked.budget, workflow.budget),
                )
            )
            await pace.keep()
        return made


def _check_labels(request: BatchRequest) -> None:
    """Raise `LabelsRejected` for names that are the service's own, and for too many labels of a run."""
    problems = list(own_label_problems(request.labels, "/labels"))
    for position, run in enumerate(request.runs):
        under = f"/runs/{position}/labels"
        problems += own_label_problems(run.labels, under)
        count = len(request.labels.keys() | run.labels.keys())
        if count + 1 > MOST_LABELS:
            problems.append(too_many(count, 1, under if run.labels else "/labels"))
        if len(problems) >= MOST_PROBLEMS:
            break
    if problems:
        raise LabelsRejected(problems[:MOST_PROBLEMS])


async def _checked(workflow: CompiledWorkflow, runs: Sequence[BatchRun]) -> list[Mapping[str, Any]]:
    """The inputs of every run with their defaults. Raises `InputsInvalid` with what is wrong in all."""
    pace = Pace()
    checked: list[Mapping[str, Any]] = []
    problems: list[Problem] = []
    for position, run in enumerate(runs):
        try:
            checked.append(workflow.validate_inputs(run.inputs))
        except InputsInvalid as error:
            under = f"/runs/{position}/inputs"
            problems += [replace(one, pointer=under + one.pointer) for one in error.problems]
            if len(problems) >= MOST_PROBLEMS:
                break
        await pace.keep()
    if problems:
        raise InputsInvalid(problems[:MOST_PROBLEMS])
    return checked


def _within_runs(problem: Problem) -> Problem:
    return replace(problem, pointer="/runs" + problem.pointer)
