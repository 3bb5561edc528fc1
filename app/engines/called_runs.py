"""Runs that `workflow` steps call, placed by the same engine that runs their callers.

A called run has an id derived from its caller and the step, so that handing it in again after a crash is
recognised; its end is read from its journal. The store marks a parked caller as due in the transaction
that ends the called run, so no end is lost between two processes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

import structlog

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import Budget, CompiledStep
from app.engines.attempts import as_failure
from app.engines.budget import budget_data, budget_of, most_of
from app.engines.call_ends import end_of
from app.engines.children import CANCELLED, ItemCall, Seen
from app.engines.codec import decode
from app.engines.engine import (
    CancelPending,
    CancelReceipt,
    Draining,
    HandedOver,
    NotPossible,
    Overloaded,
    RunEnded,
    StandingBy,
    Submission,
)
from app.engines.facts import Fact
from app.engines.fresh_steps import handlers
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

log = structlog.get_logger(__name__)

T = TypeVar("T")
Cancel = Callable[[str], Awaitable[CancelReceipt]]
Submit = Callable[[Submission], Awaitable[None]]


class Pause(Protocol):
    """Starts nothing further of a run."""

    def __call__(self, run_id: str, *, reason: str | None) -> Awaitable[None]:
        """Raises as `app.engines.engine.Engine.pause`."""
        ...


Resume = Callable[[str], Awaitable[None]]
_LATER = (StoreUnavailable, CancelPending, HandedOver, StandingBy, Draining)
"""Why a cancellation is asked for again."""


PAUSED_WITH_CALLER: Final = "its caller was paused"
"""Why the run of an item is paused with the run that it belongs to."""
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
        self._pause: Pause | None = None
        self._resume: Resume | None = None
        self.look_seconds: float | None = None
        """How often runners ask for the ends of items; None where they are told."""

    def connect(
        self,
        *,
        submit: Submit,
        cancel: Cancel,
        pause: Pause,
        resume: Resume,
        look_seconds: float | None = None,
    ) -> None:
        """Who places runs, and who controls them."""
        self._submit = submit
        self._cancel = cancel
        self._pause = pause
        self._resume = resume
        self.look_seconds = look_seconds

    async def resolve(self, caller: RunIdentity, step: CompiledStep, rendered: Any) -> Mapping[str, Any]:
        """Fix the definition and the inputs of a call."""
        if caller.depth >= MAX_DEPTH:
            raise PermanentError(
                "invalid_request",
                f"workflows may call each other {MAX_DEPTH} deep and no deeper: "
                "end the recursion with a branch",
            )
        config: Any = step.kind.config_model.of_rendered(rendered)

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
        item: ItemCall | None = None,
    ) -> Fact | None:
        """Hand the run in unless it is there already; waits for a store that is out of order."""

        async def hand_in() -> StoredRun | None:
            """The run if it has ended; only then is there more to read of it than its status."""
            status = await self._statuses.of(run_id)
            if status is None:
                submission = await self._submission(caller, path, call, run_id, item)
                if wait:
                    submission = replace(submission, awaited_by=(caller.run_id, *caller.awaited_by))
                await self._place(replace(self._reusing(submission, reuse, item), budget=budget))
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
        submit = _connected(self._submit)
        try:
            await submit(submission)
        except AlreadyExists as error:
            raise StoreUnavailable("the called run is handed in already: look at it again") from error
        except Overloaded as error:
            raise PermanentError("rate_limit", str(error)) from error
        except InputsInvalid as error:
            raise PermanentError("invalid_config", error.problems[0].detail) from error

    async def _submission(
        self,
        caller: RunIdentity,
        path: str,
        call: Mapping[str, Any],
        run_id: str,
        item: ItemCall | None,
    ) -> Submission:
        stored = self._store.runs.definition
        definition = await stored(call["definition"]) if item is None else item.definition
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
            item=item is not None,
        )

    def _reusing(self, submission: Submission, earlier: str | None, item: ItemCall | None) -> Submission:
        if earlier is None:
            return submission
        fresh = handlers(self._catalog.by_definition(submission.definition).plan)
        return replace(submission, reuse=earlier, fresh=fresh if item is None else fresh | item.fresh)

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

    # --- items ----------------------------------------------------------------------------------------

    async def look(self, items: Mapping[str, str]) -> Seen:
        """One look at all of them, and one at the journal of each that has ended."""
        read = self._store.runs.statuses
        statuses = await patiently(lambda: read([*items.values()]), event="run.not_read")
        paused = {path: run_id for path, run_id in items.items() if statuses.get(run_id) == "paused"}
        facts = []
        for path, run_id in items.items():
            if statuses.get(run_id) in TERMINAL_STATUSES and (stored := await self._read(run_id)):
                facts.append(end_of(stored.history, path, self._clock.now()))
        return Seen(ended=facts, paused=paused)

    async def pause(self, run_id: str) -> None:
        """Until it is durable; one that has ended or is paused already is left as it is."""
        pause = _connected(self._pause)
        with suppress(RunEnded, NotPossible, CancelPending, UnreadableRun):
            reason = PAUSED_WITH_CALLER
            await patiently(lambda: pause(run_id, reason=reason), event="run.not_paused", errors=_LATER)

    async def resume(self, run_id: str) -> None:
        """Go on with the run if `pause` has paused it."""
        if await patiently(lambda: self._statuses.of(run_id), event="run.not_read") != "paused":
            return
        stored = await self._read(run_id)
        if stored is None or stored.history.state.pause_reason != PAUSED_WITH_CALLER:
            return
        resume = _connected(self._resume)
        with suppress(RunEnded, NotPossible, CancelPending, UnreadableRun):
            await patiently(lambda: resume(run_id), event="run.not_resumed", errors=_LATER)

    async def _read(self, run_id: str) -> StoredRun | None:
        try:
            return await patiently(lambda: self._loader.load(run_id), event="run.not_read")
        except UnreadableRun:
            log.exception("run.unreadable", run_id=run_id)
            return None

    # --- the end --------------------------------------------------------------------------------------

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
        cancel = _connected(self._cancel)
        try:
            await cancel(run_id)
        except RunEnded:
            return await self._loader.load(run_id)
        return None


def _connected(port: T | None) -> T:
    if port is None:
        raise RuntimeError("called runs are not connected to an engine")
    return port
