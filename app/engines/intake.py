"""Accepts runs: bounds what waits, takes places, stores, and hands over what starts at once.

A run is stored and driven in one task of the engine's own, so that a caller who goes away undoes nothing.
What only reads is begun while the run is being stored (`Runner.begin`); after a run that could not be stored
nothing is begun that way until one could. What does not belong here: taking up what is stored already
(uptake), driving (runner), many at once (bulk intake).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace

import structlog

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow, ConcurrencyRule
from app.engines.bulk_intake import LIMIT_RETRY_SECONDS, BulkIntake
from app.engines.concurrency import key_of, sharing
from app.engines.engine import Draining, LimitReached, Overloaded, Submission
from app.engines.facts import Fact
from app.engines.fleet import Fleet
from app.engines.history import new_history
from app.engines.identity import RunIdentity
from app.engines.runner import Runner, RunnerTools
from app.engines.standstill import call_of, standstill
from app.engines.submitted import submitted_data
from app.engines.uptake import Displace, Uptake
from app.ports.errors import AlreadyExists
from app.ports.lock import ExecutorLock
from app.ports.runs import RunRow, Store

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Coming:
    """A run that is being accepted."""

    submission: Submission
    runner: Runner
    rule: ConcurrencyRule | None
    starts: bool
    counted: bool
    """Its place within its concurrency key was taken for it."""
    awaited: bool
    """It was noted down as a call that waits."""
    accepted: asyncio.Future[None]


class Intake:
    """Of one engine. `stored` is called after every run that came, with whether the queue is to be looked at;
    `displace` of a run that takes the place of the oldest ones of its key."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        fleet: Fleet,
        uptake: Uptake,
        tools: RunnerTools,
        lock: ExecutorLock,
        max_active: int,
        max_pending: int,
        stored: Callable[[bool], None],
        displace: Displace,
    ) -> None:
        self.closed = False
        """The process is shutting down."""
        self._runs = store.runs
        self._catalog = catalog
        self._fleet = fleet
        self._uptake = uptake
        self._backlog = uptake.backlog
        self._concurrency = uptake.concurrency
        self._tools = tools
        self._lock = lock
        self._max_active = max_active
        self._max_pending = max_pending
        self._stored = stored
        self._displace = displace
        self._bulk = BulkIntake(
            runs=store.runs,
            decisions=tools.decisions,
            backlog=self._backlog,
            concurrency=self._concurrency,
            max_pending=max_pending,
            displace=displace,
        )
        self._stores = True
        """The last run that came could be stored, so the next one may begin meanwhile."""

    async def submit(self, submission: Submission) -> None:
        """Accept a run. Raises `Overloaded`, `Draining`, `StoreError`."""
        self._require_open()
        workflow = self._catalog.by_definition(submission.definition)
        rule = workflow.concurrency
        if rule is not None:
            submission = await self._keyed(submission, rule)
        async with self._in_turn(submission.run, rule):
            if rule is not None:
                await self._limit(submission, rule)
            starts = self._can_start() and not self._is_full(submission.run, rule)
            if not starts and self._backlog.size >= self._max_pending:
                raise Overloaded(
                    f"{self._backlog.size} runs are waiting already; try again later",
                    retry_after=self._retry_after(),
                )
            await self._take_in(submission, workflow, starts=starts)

    async def submit_called(self, submission: Submission) -> None:
        """Accept a run that another one calls: it was admitted with its caller, so there is room for it.

        Raises `PermanentError` for one that could never begin, and as `submit`.
        """
        workflow = self._catalog.by_definition(submission.definition)
        rule = workflow.concurrency
        if rule is not None:
            submission = await self._keyed(submission, rule)
        async with self._in_turn(submission.run, rule):
            if rule is not None:
                await self._limit(submission, rule)
            starts = self._can_start() and not self._is_full(submission.run, rule)
            await self._take_in(submission, workflow, starts=starts)

    async def submit_many(self, submissions: Sequence[Submission]) -> None:
        """Accept runs of one definition into the queue, all or none."""
        self._require_open()
        self._bulk.admit(len(submissions), retry_after=self._retry_after())
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fleet.spawn(self._accept_many(submissions, accepted))
        await accepted

    async def _accept_many(self, submissions: Sequence[Submission], accepted: asyncio.Future[None]) -> None:
        """Store runs in a task of the engine's own: a caller that goes away does not undo it."""
        rule = self._catalog.by_definition(submissions[0].definition).concurrency
        traceparent = self._tools.observer.traceparent()
        if await self._bulk.store(submissions, rule, traceparent, accepted):
            self._stored(True)

    def _require_open(self) -> None:
        if self.closed:
            raise Draining("the service is shutting down; submit to another instance or try again later")

    # --- places ---------------------------------------------------------------------------------------

    async def _keyed(self, submission: Submission, rule: ConcurrencyRule) -> Submission:
        key = await self._tools.decisions.concurrency_key(rule, submission.inputs)
        return replace(submission, run=replace(submission.run, concurrency_key=key))

    def _in_turn(self, run: RunRow, rule: ConcurrencyRule | None) -> AbstractAsyncContextManager[object]:
        """Where the store has to say whether there is room, those of a key come one after another: a burst
        must not slip past the answer."""
        key = key_of(run)
        if rule is None or key is None:
            return nullcontext()
        return self._concurrency.in_turn(rule, key)

    async def _limit(self, submission: Submission, rule: ConcurrencyRule) -> None:
        """Raise `LimitReached` where the rule says so."""
        run = submission.run
        if not self._concurrency.kept:
            await self._concurrency.look()
        full = self._is_full(run, rule)
        if not full and rule.on_limit == "reject":
            full = await self._concurrency.spoken_for(key_of(run), limit=rule.limit)
        if full:
            call = call_of(run, rule, submission.awaited_by)
            refusal = None if call is None else standstill(self._concurrency, run, rule, call)
            if refusal is not None:
                raise refusal
            if rule.on_limit == "reject":
                self._concurrency.refused(key_of(run))
                raise LimitReached(
                    f"of the runs of {sharing(run)} at most {rule.limit} may be under way; "
                    "try again when one of them has ended",
                    retry_after=LIMIT_RETRY_SECONDS,
                )

    def _is_full(self, run: RunRow, rule: ConcurrencyRule | None) -> bool:
        return self._concurrency.full(key_of(run), rule)

    def _can_start(self) -> bool:
        concurrency = self._concurrency
        executes = self._lock.held and concurrency.kept and not self._fleet.closed
        in_turn = self._backlog.size <= len(concurrency)
        return executes and in_turn and len(self._fleet) < self._max_active

    def _retry_after(self) -> int:
        return min(60, max(1, self._backlog.size // max(1, self._max_active)))

    # --- storing --------------------------------------------------------------------------------------

    async def _take_in(self, submission: Submission, workflow: CompiledWorkflow, *, starts: bool) -> None:
        run, rule = submission.run, workflow.concurrency
        if run.id in self._fleet:
            raise AlreadyExists(f"run {run.id!r} is under way: give a new run a new id")
        runner = Runner(_identity(submission), workflow, new_history(run.id, workflow.plan), self._tools)
        # The place is taken before anything is awaited: a burst must not slip past the bounds.
        counted = awaited = False
        if starts:
            self._fleet.add(runner)
            counted = self._concurrency.began(key_of(run), run.id)
        else:
            self._backlog.admitted()
            if rule is not None and (call := call_of(run, rule, submission.awaited_by)) is not None:
                awaited = self._concurrency.waits_while_awaited(run.id, call)
        accepted: asyncio.Future[None] = runner.loop.create_future()
        coming = _Coming(submission, runner, rule, starts, counted, awaited, accepted)
        self._fleet.spawn(self._accept(coming))
        await accepted

    async def _accept(self, coming: _Coming) -> None:
        """Store a run, tell whoever waits, and drive it: all in one task, which is the engine's own."""
        traceparent = self._tools.observer.traceparent()
        runner = coming.runner
        driving = self._tools.observer.driving(runner.run, traceparent) if coming.starts else nullcontext()
        with driving:
            try:
                await self._create(coming, traceparent)
            except BaseException as error:
                await self._refuse(coming, error)
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            self._stores = True
            if not coming.accepted.done():
                coming.accepted.set_result(None)
            if coming.starts:
                self._stored(False)
                await self._fleet.drive(runner)
            else:
                self._queued(coming)

    async def _refuse(self, coming: _Coming, error: BaseException) -> None:
        """Undo what was done for a run that could not be stored."""
        await coming.runner.discard()
        self._stores = False
        run = coming.submission.run
        if coming.starts:
            self._fleet.remove(coming.runner)
        else:
            self._backlog.refused()
        if coming.counted:
            self._concurrency.ended(key_of(run), run.id)
        if coming.awaited:
            self._concurrency.waits_no_more(run.id)
        accepted = coming.accepted
        if isinstance(error, asyncio.CancelledError):
            accepted.cancel()
        elif accepted.done():
            log.warning("submission.refused", run_id=run.id, error=type(error).__name__)
        else:
            accepted.set_exception(error)

    def _queued(self, coming: _Coming) -> None:
        run, rule = coming.submission.run, coming.rule
        self._backlog.stored()
        if rule is not None and rule.on_limit == "cancel_oldest" and self._is_full(run, rule):
            self._displace(run, rule)
        self._stored(len(self._fleet) < self._max_active)

    async def _create(self, coming: _Coming, traceparent: str | None) -> None:
        submission, runner = coming.submission, coming.runner
        run = submission.run
        data = submitted_data(submission) | {"traceparent": traceparent}
        facts = [Fact(event=e.RunSubmitted(at=run.created_at), data=data)]
        if coming.starts:
            facts.append(self._uptake.start_fact(submission.timeout_seconds))
        runner.fold(facts)
        history = runner.history
        row = replace(run, status=history.status, started_at=history.started_at, finished_at=history.ended_at)
        batch = runner.take_batch()
        change = batch.change
        if change is not None and not (change.approvals or change.wakes):
            change = None  # the row says all of it
        if self._stores:
            runner.begin()
        await self._runs.create(
            row,
            batch.rows,
            submission.definition,
            submission.idempotency,
            change=change,
            webhook=submission.webhook,
        )


def _identity(submission: Submission) -> RunIdentity:
    run = submission.run
    return RunIdentity(
        run_id=run.id,
        tenant=run.tenant,
        workflow=run.workflow,
        labels=run.labels,
        priority=run.priority,
        caller=None if submission.caller is None else submission.caller[0],
        depth=submission.depth,
        awaited_by=submission.awaited_by,
        concurrency_key=run.concurrency_key,
    )
