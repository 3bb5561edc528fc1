"""Use cases around runs: submit, wait, read, list, cancel, follow.

Every one takes the principal first and reads in that principal's tenant only: another tenant's run is
`RunNotFound`, as one that never was. What does not belong here: HTTP, the shape of responses, execution.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import uuid_utils

from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow
from app.engines.budget import asked_budget
from app.engines.engine import CancelReceipt, Engine, Submission, receipt_of
from app.engines.recovery import StoredRun
from app.ports.clock import Clock
from app.ports.deadline import Deadline
from app.ports.errors import AlreadyExists
from app.ports.records import record
from app.ports.runs import RunFilter, RunRow, Store
from app.services.asked import AskedOnce
from app.services.cursors import fingerprint, read_cursor, write_cursor
from app.services.definitions import Definitions, compile_aside
from app.services.errors import EventNotFound, RunNotFound
from app.services.event_stream import EventStream
from app.services.idempotency import Answer, Idempotency, IdempotencyKey, Record
from app.services.principal import Principal
from app.services.run_labels import check_labels
from app.services.run_reader import RunReader, aside
from app.services.step_selection import ALL_STEPS, StepsWanted
from app.services.views import RunSummary, RunView, run_view, summary_of
from app.services.webhook_rules import RunWebhook, WebhookRules
from app.services.workflows import not_registered


@record
class RunRequest:
    """What to run. `workflow` is a definition (a JSON object) or the name of a registered one."""

    workflow: Mapping[str, Any] | str
    version: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    own_labels: Mapping[str, str] = field(default_factory=dict)
    """Those that only the service sets."""
    priority: int = 0
    timeout_seconds: float | None = None
    webhook: RunWebhook | None = None
    budget: Mapping[str, Any] | None = None
    """Fields of `app.dsl.compiled.Budget`; absent ones are the document's."""


@record
class Accepted:
    """A durable run, and the answer to its submission. `replayed`: the answer was given before."""

    run_id: str
    answer: Answer
    replayed: bool = False
    made: tuple[RunRow, CompiledWorkflow] | None = None
    """What was submitted; None for one whose answer was given before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of runs, newest first."""

    items: list[RunSummary]
    next_cursor: str | None


Receipt = Callable[[RunRow], Answer]
"""Writes the answer to a submission; it is stored with the run, so it is made before."""
Prepare = Callable[[], Awaitable[tuple[Submission, CompiledWorkflow]]]
"""Makes a submission without an answer; it is not asked where one was given before."""


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
        webhooks: WebhookRules | None = None,
        new_id: Callable[[], str] = new_run_id,
    ) -> None:
        self._store = store
        self._engine = engine
        self._catalog = catalog
        self._definitions = definitions
        self._reader = RunReader(store.journal, definitions)
        self._asked = AskedOnce(store.journal, clock)
        self._clock = clock
        self._idempotency = idempotency
        self._closing = closing
        self._webhooks = webhooks or WebhookRules()
        self._new_id = new_id
        self._waits: set[Deadline] = set()
        """Of callers that may still be let go."""

    # --- submit ---------------------------------------------------------------------------------------

    async def submit(
        self,
        principal: Principal,
        request: RunRequest,
        receipt: Receipt,
        key: IdempotencyKey | None = None,
        *,
        run_id: str | None = None,
    ) -> Accepted:
        """Accept a run; it is durable on return. Without a `run_id` it gets a new one.

        Raises `LabelsRejected`, `WorkflowNotFound`, `DefinitionInvalid`, `InputsInvalid`, `WebhookRejected`,
        `IdempotencyKeyReused`, `IdempotencyKeyInUse`, `Overloaded`, `Draining`, `StoreUnavailable`;
        `AlreadyExists` if a run has the given id.
        """

        async def prepare() -> tuple[Submission, CompiledWorkflow]:
            check_labels(request.labels)
            if run_id and await self._store.runs.get(principal.tenant, run_id):
                # The engine takes an id for new: it may have that run in hand.
                raise AlreadyExists(f"run {run_id!r} exists already: give a new run a new id")
            workflow = await self._workflow(principal, request)
            inputs = workflow.validate_inputs(request.inputs)
            run = self._new_run(principal, request, workflow, run_id or self._new_id())
            timeout = request.timeout_seconds
            definition = workflow.definition
            webhook = self._webhooks.of_run(run, request.webhook) if request.webhook else None
            return Submission(
                run=run,
                definition=definition,
                inputs=inputs,
                timeout_seconds=timeout,
                webhook=webhook,
                budget=asked_budget(request.budget, workflow.budget),
            ), workflow

        return await self.accept(principal, prepare, receipt, key, given_id=run_id is not None)

    async def accept(
        self,
        principal: Principal,
        prepare: Prepare,
        receipt: Receipt,
        key: IdempotencyKey | None,
        *,
        given_id: bool = False,
    ) -> Accepted:
        """Accept what `prepare` makes, once a key. Raises as `submit`, and what `prepare` raises."""
        made: tuple[RunRow, CompiledWorkflow] | None = None

        async def write(record: Record) -> Answer:
            nonlocal made
            submission, workflow = await prepare()
            answer = receipt(submission.run)
            made = submission.run, workflow
            kept = record(answer)
            await self._engine.submit(replace(submission, idempotency=kept) if kept else submission)
            return answer

        async def taken(error: AlreadyExists) -> Answer:
            raise error

        answer, replayed = await self._idempotency.with_write(
            principal.tenant, key, write, taken=taken if given_id else None
        )
        if made is None or replayed:
            run_id = answer.headers["Location"].rpartition("/")[2]
            return Accepted(run_id=run_id, answer=answer, replayed=True)
        return Accepted(run_id=made[0].id, answer=answer, made=made)

    async def _workflow(self, principal: Principal, request: RunRequest) -> CompiledWorkflow:
        if not isinstance(request.workflow, str):
            return await compile_aside(self._catalog, request.workflow)
        row = await self._store.workflows.get(principal.tenant, request.workflow, request.version)
        if row is None:
            raise await not_registered(
                self._store.workflows, principal.tenant, request.workflow, request.version
            )
        return await self._definitions.workflow(row.definition_hash)

    def _new_run(
        self, principal: Principal, request: RunRequest, workflow: CompiledWorkflow, run_id: str
    ) -> RunRow:
        return RunRow(
            id=run_id,
            tenant=principal.tenant,
            workflow=workflow.name,
            version=workflow.version,
            status="pending",
            definition_hash=workflow.definition.hash,
            priority=request.priority,
            labels={**request.labels, **request.own_labels} if request.own_labels else request.labels,
            created_at=round(self._clock.now(), 6),  # as callers see it, so that they can filter by it
        )

    async def wait(self, principal: Principal, accepted: Accepted, *, seconds: float) -> RunView | None:
        """The run once it has ended; None if that takes longer, if the process is shutting down, and for one
        that was pruned since its answer was given."""
        made = accepted.made or await self._submitted_before(principal, accepted.run_id)
        if made is None:
            return None
        history = None
        if not self._closing.is_set():
            loop = asyncio.get_running_loop()
            with suppress(TimeoutError), Deadline(loop, loop.time() + seconds) as deadline:
                self._waits.add(deadline)
                try:
                    history = await self._engine.wait(accepted.run_id)
                finally:
                    self._waits.discard(deadline)
        if history is None:
            return None
        return await aside(history, run_view, *made, history)

    async def _submitted_before(
        self, principal: Principal, run_id: str
    ) -> tuple[RunRow, CompiledWorkflow] | None:
        row = await self._store.runs.get(principal.tenant, run_id)
        return None if row is None else (row, await self._definitions.workflow(row.definition_hash))

    async def summary(self, principal: Principal, run_id: str) -> RunRow | None:
        """The row of a run as it is now; None for one that there is not, or not any more."""
        return await self._store.runs.get(principal.tenant, run_id)

    def stop_waiting(self) -> None:
        """Let every waiting caller go: the process is shutting down, the runs are durable."""
        while self._waits:
            self._waits.pop().expire()

    # --- read -----------------------------------------------------------------------------------------

    async def _row(self, principal: Principal, run_id: str) -> RunRow:
        row = await self._store.runs.get(principal.tenant, run_id)
        if row is None:
            raise RunNotFound(run_id)
        return row

    async def load(
        self, principal: Principal, run_id: str, *, at: int | None = None, lean: bool = False
    ) -> tuple[RunRow, StoredRun]:
        """The run folded from its journal, up to event `at`; a `lean` one as `RunReader.read` says.

        Raises `RunNotFound`, `EventNotFound`.
        """
        row = await self._row(principal, run_id)
        stored = await self._reader.read(run_id, upto=at, lean=lean)
        if stored is None:
            raise RunNotFound(run_id)
        if at is not None and stored.history.seq < at:
            raise EventNotFound(run_id, at, stored.history.seq)
        return row, stored

    async def get(
        self, principal: Principal, run_id: str, *, at: int | None = None, wanted: StepsWanted = ALL_STEPS
    ) -> RunView:
        """The run as it is, or as it was after event `at`. Raises as `load`, and `StepNotFound`."""
        row, stored = await self.load(principal, run_id, at=at)
        return await aside(stored.history, run_view, row, stored.workflow, stored.history, wanted)

    async def is_at(self, principal: Principal, run_id: str, seq: int, *, latest: bool = True) -> bool:
        """Whether the run has an event number `seq`, and that is its latest one; without folding.

        Raises `RunNotFound`.
        """
        await self._row(principal, run_id)
        rows = await self._store.journal.read(run_id, after=seq - 1, limit=2 if latest else 1)
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

        Raises `RunNotFound`, `RunEnded`, `CancelPending`, `HandedOver`, `UnreadableRun`.
        """

        async def cancel() -> Answer:
            await self._row(principal, run_id)
            met = await self._asked.once(
                principal.tenant,
                key,
                run_id,
                lambda request: self._engine.cancel(run_id, reason=reason, request=request),
                partial(self._met, run_id),
            )
            return receipt(met)

        return await self._idempotency.once(principal.tenant, key, cancel)

    async def _met(self, run_id: str, seq: int) -> CancelReceipt:
        """What the cancellation at that position of the journal met."""
        before = await self._reader.read(run_id, upto=seq - 1)
        return receipt_of(before.history) if before else CancelReceipt()

    async def abandon(self, principal: Principal, run_id: str, *, reason: str) -> None:
        """Cancel for a caller that does not look at the run any more, or cannot answer what it asks."""
        await self._row(principal, run_id)
        await self._engine.cancel(run_id, reason=reason)
