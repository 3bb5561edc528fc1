"""Runs that `workflow` steps call, placed by the same engine that runs their callers.

A called run has an id derived from its caller and the step, so that handing it in again after a crash is
recognised; its end is read from its journal. The store marks a parked caller as due in the transaction
that ends the called run, so no end is lost between two processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import structlog

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import Budget, CompiledStep
from app.engines.attempts import as_failure
from app.engines.budget import budget_data, budget_of, charged_so_far, most_of
from app.engines.children import CANCELLED
from app.engines.codec import decode
from app.engines.engine import (
    CancelPending,
    CancelReceipt,
    Draining,
    HandedOver,
    Overloaded,
    RunEnded,
    StandingBy,
    Submission,
)
from app.engines.facts import Fact
from app.engines.fresh_steps import handlers
from app.engines.history import History
from app.engines.identity import RunIdentity
from app.engines.patience import patiently
from app.engines.recovery import RunLoader, StoredRun, UnreadableRun
from app.engines.status_reads import StatusReads
from app.ports.clock import Clock
from app.ports.errors import (
    AlreadyExists,
    DefinitionInvalid,
    InputsInvalid,
    PermanentError,
    StoreUnavailable,
)
from app.ports.runs import TERMINAL_STATUSES, Definition, RunRow, Store, WorkflowRow
from app.steps.kind import RENDERED

log = structlog.get_logger(__name__)

Cancel = Callable[[str], Awaitable[CancelReceipt]]
Submit = Callable[[Submission], Awaitable[None]]
_LATER = (StoreUnavailable, CancelPending, HandedOver, StandingBy, Draining)
"""Why a cancellation is asked for again."""


MOST_GIVEN: Final = 10_000
"""Called runs whose budgets are kept in memory."""
MAX_DEPTH: Final = 16
"""Runs that call each other in a row; a workflow that calls itself without an end stops here."""


class CalledRuns:
    """Implements `app.engines.children.Children`; `connect` it to the engine before use."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock) -> None:
        self._store = store
        self._catalog = catalog
        self._clock = clock
        self._loader = RunLoader(store, catalog)
        self._statuses = StatusReads(store.runs)
        self._given: dict[str, Budget | None] = {}
        """What runs were handed in with, which never changes; of the latest ones."""
        self._submit: Submit | None = None
        self._cancel: Cancel | None = None

    def connect(self, *, submit: Submit, cancel: Cancel) -> None:
        """Who places runs, and who ends them early."""
        self._submit = submit
        self._cancel = cancel

    async def resolve(self, caller: RunIdentity, step: CompiledStep, rendered: Any) -> Mapping[str, Any]:
        """Fix the definition and the inputs of a call."""
        if caller.depth >= MAX_DEPTH:
            raise PermanentError(
                "invalid_request",
                f"workflows may call each other {MAX_DEPTH} deep and no deeper: "
                "end the recursion with a branch",
            )
        config: Any = step.kind.config_model.model_validate(rendered, context=RENDERED)

        async def look_up() -> tuple[WorkflowRow | None, Definition | None]:
            row = await self._store.workflows.get(caller.tenant, config.workflow, config.version)
            return row, None if row is None else await self._store.runs.definition(row.definition_hash)

        row, definition = await patiently(look_up, event="workflow.not_read")
        if row is None or definition is None:
            version = "" if config.version is None else f" in version {config.version!r}"
            raise PermanentError("not_found", f"workflow {config.workflow!r} is not registered{version}")
        try:
            workflow = self._catalog.by_definition(definition)
            inputs = workflow.validate_inputs(config.inputs or {})
        except InputsInvalid as error:
            first = error.problems[0]
            raise PermanentError(
                "invalid_config", f"inputs{first.pointer} of {config.workflow!r}: {first.detail}"
            ) from error
        except DefinitionInvalid as error:
            raise PermanentError(
                "invalid_config", f"workflow {config.workflow!r} is not understood by this version"
            ) from error
        call = {
            "workflow": row.name,
            "version": row.version,
            "definition": row.definition_hash,
            "inputs": inputs,
        }
        return call if workflow.budget is None else {**call, "budget": budget_data(workflow.budget)}

    async def launch(
        self,
        caller: RunIdentity,
        path: str,
        call: Mapping[str, Any],
        run_id: str,
        *,
        wait: bool,
        reuse: str | None = None,
        budget: Budget | None = None,
    ) -> Fact | None:
        """Hand the run in unless it is there already; waits for a store that is out of order."""

        async def hand_in() -> StoredRun | None:
            """The run if it has ended; only then is there more to read of it than its status."""
            status = await self._statuses.of(run_id)
            if status is None:
                submission = await self._submission(caller, path, call, run_id)
                if wait:
                    submission = replace(submission, awaited_by=(caller.run_id, *caller.awaited_by))
                await self._place(replace(self._reusing(submission, reuse), budget=budget))
            return await self._loader.load(run_id) if status in TERMINAL_STATUSES else None

        known = None
        try:
            known = await patiently(hand_in, event="run.not_called")
        except UnreadableRun:  # a version that can read it goes on with it, and it wakes its caller then
            log.exception("run.unreadable", run_id=run_id)
        except PermanentError as error:
            return Fact(event=e.ChildEnded(path=path, failure=as_failure(error), at=self._clock.now()))
        if not wait:
            outputs = {"outputs": None, "run_id": run_id}
            return Fact(event=e.ChildLaunched(path=path, at=self._clock.now()), data={"outputs": outputs})
        return None if known is None else end_of(known.history, path, self._clock.now())

    async def _place(self, submission: Submission) -> None:
        """Raises `PermanentError` where it is refused, and `StoreUnavailable`."""
        if self._submit is None:
            raise RuntimeError("called runs are not connected to an engine")
        try:
            await self._submit(submission)
        except AlreadyExists as error:
            raise StoreUnavailable("the called run is handed in already: look at it again") from error
        except Overloaded as error:
            raise PermanentError("rate_limit", str(error)) from error
        except InputsInvalid as error:
            raise PermanentError("invalid_config", error.problems[0].detail) from error

    async def _submission(
        self, caller: RunIdentity, path: str, call: Mapping[str, Any], run_id: str
    ) -> Submission:
        definition = await self._store.runs.definition(call["definition"])
        if definition is None:
            raise PermanentError("not_found", f"the definition of workflow {call['workflow']!r} is gone")
        run = RunRow(
            id=run_id,
            tenant=caller.tenant,
            workflow=call["workflow"],
            version=call["version"],
            status="pending",
            definition_hash=definition.hash,
            priority=caller.priority,
            labels=caller.labels,
            created_at=round(self._clock.now(), 6),
            parent_run_id=caller.run_id,
        )
        return Submission(
            run=run,
            definition=definition,
            inputs=call["inputs"],
            caller=(caller.run_id, path),
            depth=caller.depth + 1,
        )

    def _reusing(self, submission: Submission, earlier: str | None) -> Submission:
        if earlier is None:
            return submission
        plan = self._catalog.by_definition(submission.definition).plan
        return replace(submission, reuse=earlier, fresh=handlers(plan))

    async def budget_of(self, run_id: str) -> Budget | None:
        """By the first event of its journal, which is read once: its caller asks whenever it is taken up."""
        if run_id not in self._given:
            rows = await patiently(lambda: self._store.journal.read(run_id, limit=1), event="run.not_read")
            if not rows:
                return None
            if len(self._given) >= MOST_GIVEN:
                self._given.clear()
            self._given[run_id] = budget_of((decode(rows[0])[1] or {}).get("budget"))
        return self._given[run_id]

    async def cancel(self, caller: RunIdentity, path: str, run_id: str) -> Fact:
        """End the run early; one that was never handed in, or has ended, is left as it is."""
        try:
            known = await patiently(lambda: self._ended(run_id), event="run.not_cancelled", errors=_LATER)
        except UnreadableRun:  # nothing of it happens under this version
            log.exception("run.unreadable", run_id=run_id)
            known = None
        if known is not None and known.history.state.terminal:
            return end_of(known.history, path, self._clock.now())
        # It may have calls to make yet (`finally`): all that it was given counts as used.
        given = await self.budget_of(run_id)
        data = None if given is None else {"charged": most_of(given).as_data()}
        return Fact(event=e.ChildEnded(path=path, failure=CANCELLED, at=self._clock.now()), data=data)

    async def _ended(self, run_id: str) -> StoredRun | None:
        """Have a run end; the run, if there was nothing to do."""
        if self._cancel is None:
            raise RuntimeError("called runs are not connected to an engine")
        try:
            await self._cancel(run_id)
        except RunEnded:
            return await self._loader.load(run_id)
        return None


def end_of(history: History, path: str, now: float) -> Fact:
    """How a called run ended, as a fact for the step that called it."""
    run_id = history.state.run_id
    budgeted = history.submitted.get("budget") is not None
    charged = {"charged": charged_so_far(history).as_data()} if budgeted else {}
    if history.status == "completed":
        outputs = history.outputs if isinstance(history.outputs, dict) else {}
        data = {"outputs": {**outputs, "outputs": history.outputs, "run_id": run_id}, **charged}
        return Fact(event=e.ChildEnded(path=path, failure=None, at=now), data=data)
    failure = history.failure
    if failure is None:
        error_class = "timeout" if history.status == "timed_out" else "cancelled"
        failure = e.Failure(error_class=error_class, message=f"ended as {history.status}")
    message = f"the called run {run_id!r} failed: {failure.message}"
    failed = e.Failure(error_class=failure.error_class, message=message)
    return Fact(event=e.ChildEnded(path=path, failure=failed, at=now), data=charged or None)
