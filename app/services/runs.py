"""Use cases around runs: submit, wait, read, list, cancel, follow.

Every one takes the principal first and reads in that principal's tenant only: another tenant's run is
`RunNotFound`, as one that never was. What does not belong here: HTTP, the shape of responses, execution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog
import uuid_utils

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.engine import CancelReceipt, Engine, Submission
from app.engines.recovery import RunLoader
from app.ports.clock import Clock
from app.ports.errors import AlreadyExists, StoreUnavailable
from app.ports.runs import RunFilter, RunRow, Store
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.definitions import Definitions, compile_aside
from app.services.errors import IdempotencyKeyInUse, RunNotFound, WorkflowNotFound
from app.services.event_stream import EventStream
from app.services.idempotency import Answer, Idempotency, IdempotencyKey
from app.services.principal import Principal
from app.services.views import RunSummary, RunView, run_view, summary_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What to run. `workflow` is a definition (a JSON object) or the name of a registered one."""

    workflow: Mapping[str, Any] | str
    version: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A durable run, and the answer to its submission. `replayed`: the answer was given before."""

    run: RunRow
    workflow: CompiledWorkflow
    answer: Answer
    replayed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of runs, newest first."""

    items: list[RunSummary]
    next_cursor: str | None


Receipt = Callable[[RunRow], Answer]
"""Writes the answer to a submission; it is stored with the run, so it is made before."""


def new_run_id() -> str:
    """A UUIDv7: ids sort by age."""
    return str(uuid_utils.uuid7())


class RunService:
    """Runs of a process."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        catalog: Catalog,
        clock: Clock,
        idempotency: Idempotency,
        closing: asyncio.Event,
        definitions: Definitions,
        new_id: Callable[[], str] = new_run_id,
    ) -> None:
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._definitions = definitions
        self._loader = RunLoader(store, catalog)
        self._clock = clock
        self._idempotency = idempotency
        self._closing = closing
        self._new_id = new_id
        self._waits: set[asyncio.Timeout] = set()
        """Of callers that may still be let go."""

    # --- submit ---------------------------------------------------------------------------------------

    async def submit(
        self, principal: Principal, request: RunRequest, receipt: Receipt, key: IdempotencyKey | None = None
    ) -> Accepted:
        """Accept a run; it is durable on return.

        Raises `WorkflowNotFound`, `DefinitionInvalid`, `InputsInvalid`, `IdempotencyKeyReused`,
        `IdempotencyKeyInUse`, `Overloaded`, `Draining`, `StoreUnavailable`.
        """
        with self._idempotency.hold(principal.tenant, key) if key else nullcontext():
            if key and (earlier := await self._idempotency.earlier(principal.tenant, key)):
                return await self._replay(principal, earlier)
            workflow = await self._workflow(principal, request)
            inputs = workflow.validate_inputs(request.inputs)
            run = self._new_run(principal, request, workflow)
            answer = receipt(run)
            submission = Submission(
                run=run,
                definition=workflow.definition,
                inputs=inputs,
                timeout_seconds=request.timeout_seconds,
                idempotency=self._idempotency.record(principal.tenant, key, answer) if key else None,
            )
            try:
                await self._engine.submit(submission)
            except AlreadyExists:
                return await self._lost_race(principal, key)
            return Accepted(run=run, workflow=workflow, answer=answer)

    async def _workflow(self, principal: Principal, request: RunRequest) -> CompiledWorkflow:
        if not isinstance(request.workflow, str):
            return await compile_aside(self._catalog, request.workflow)
        row = await self._store.workflows.get(principal.tenant, request.workflow, request.version)
        if row is None:
            raise WorkflowNotFound(request.workflow, request.version)
        return await self._definitions.workflow(row.definition_hash)

    def _new_run(self, principal: Principal, request: RunRequest, workflow: CompiledWorkflow) -> RunRow:
        return RunRow(
            id=self._new_id(),
            tenant=principal.tenant,
            workflow=workflow.name,
            version=workflow.version,
            status="pending",
            definition_hash=workflow.definition.hash,
            priority=request.priority,
            labels=request.labels,
            created_at=round(self._clock.now(), 6),  # as callers see it, so that they can filter by it
        )

    async def _lost_race(self, principal: Principal, key: IdempotencyKey | None) -> Accepted:
        """Another process stored the same key first: its answer stands."""
        earlier = await self._idempotency.earlier(principal.tenant, key) if key else None
        if earlier is None:
            raise IdempotencyKeyInUse(
                "the idempotency key is being used; send the request again", retry_after=1
            )
        return await self._replay(principal, earlier)

    async def _replay(self, principal: Principal, answer: Answer) -> Accepted:
        run_id = answer.headers["Location"].rpartition("/")[2]
        row = await self._row(principal, run_id)
        workflow = await self._definitions.workflow(row.definition_hash)
        return Accepted(run=row, workflow=workflow, answer=answer, replayed=True)

    async def wait(self, accepted: Accepted, *, seconds: float) -> RunView | None:
        """The run once it has ended; None if that takes longer, or if the process is shutting down."""
        history = None
        if not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as scope:
                    self._waits.add(scope)
                    try:
                        history = await self._engine.wait(accepted.run.id, seconds=seconds)
                    finally:
                        self._waits.discard(scope)
        return None if history is None else run_view(accepted.run, accepted.workflow, history)

    def stop_waiting(self) -> None:
        """Let every waiting caller go: the process is shutting down, the runs are durable.

        Harmless when done already: a scope is let go once, for one that expires cannot be rescheduled.
        """
        now = asyncio.get_running_loop().time()
        while self._waits:
            self._waits.pop().reschedule(now)

    # --- read -----------------------------------------------------------------------------------------

    async def _row(self, principal: Principal, run_id: str) -> RunRow:
        row = await self._store.runs.get(principal.tenant, run_id)
        if row is None:
            raise RunNotFound(run_id)
        return row

    async def get(self, principal: Principal, run_id: str) -> RunView:
        """The run folded from its journal. Raises `RunNotFound`."""
        row = await self._row(principal, run_id)
        stored = await self._loader.load(run_id)
        if stored is None:
            raise RunNotFound(run_id)
        return run_view(row, stored.workflow, stored.history)

    async def is_at(self, principal: Principal, run_id: str, seq: int) -> bool:
        """Whether the run's latest event is number `seq`, without folding. Raises `RunNotFound`."""
        await self._row(principal, run_id)
        rows = await self._store.journal.read(run_id, after=seq - 1, limit=2)
        return [row.seq for row in rows] == [seq]

    async def list(self, principal: Principal, filter: RunFilter, *, limit: int, cursor: str | None) -> Page:
        """A page of runs, newest first. Raises `InvalidCursor`."""
        mark = fingerprint(
            "runs",
            principal.tenant,
            sorted(filter.statuses),
            filter.workflow,
            dict(filter.labels),
            filter.created_after,
            filter.created_before,
        )
        before = None
        if cursor is not None:
            created_at, run_id = read_cursor(cursor, mark, (float, str))
            before = (created_at, run_id)
        rows = await self._store.runs.list(principal.tenant, filter, limit=limit + 1, before=before)
        shown = rows[:limit]
        more = len(rows) > limit
        next_cursor = write_cursor(mark, (float(shown[-1].created_at), shown[-1].id)) if more else None
        return Page(items=[summary_of(row) for row in shown], next_cursor=next_cursor)

    # --- follow and control ---------------------------------------------------------------------------

    async def follow(self, principal: Principal, run_id: str, *, after: int) -> EventStream | None:
        """The run's events past `after`; None if it has ended and there are none. Raises `RunNotFound`."""
        row = await self._row(principal, run_id)
        if row.finished_at is not None and not await self._store.journal.read(run_id, after=after, limit=1):
            return None
        return EventStream(
            run_id=run_id,
            after=after,
            journal=self._store.journal,
            finished=partial(self._finished, principal, run_id),
            engine=self._engine,
            closing=self._closing,
        )

    async def _finished(self, principal: Principal, run_id: str) -> bool:
        return (await self._row(principal, run_id)).finished_at is not None

    async def cancel(
        self,
        principal: Principal,
        run_id: str,
        *,
        reason: str | None,
        receipt: Callable[[CancelReceipt], Answer],
        key: IdempotencyKey | None = None,
    ) -> tuple[Answer, bool]:
        """End a run early; the answer, and whether it was given before.

        Raises `RunNotFound`, `RunEnded`, `StandingBy`, `CancelPending`, `HandedOver`, `UnreadableRun`.
        """
        with self._idempotency.hold(principal.tenant, key) if key else nullcontext():
            if key and (earlier := await self._idempotency.earlier(principal.tenant, key)):
                return earlier, True
            await self._row(principal, run_id)
            answer = receipt(await self._engine.cancel(run_id, reason=reason))
            if key:
                try:
                    await self._idempotency.save(principal.tenant, key, answer)
                except StoreUnavailable:
                    # the cancellation is durable: a refusal would say that it is not
                    log.warning("idempotency.not_saved", run_id=run_id)
            return answer, False

    async def abandon(self, principal: Principal, run_id: str) -> None:
        """Cancel for a caller that went away; nobody is left to hear of a refusal."""
        await self._row(principal, run_id)
        await self._engine.cancel(run_id, reason="the caller went away")
