"""The embedded engine: runs as asyncio tasks of this process.

Bounded: at most `max_active_runs` are in memory, the rest wait in the store by priority and age; past
`max_pending_runs` a submission is refused. One executor a store, by a lock: a process without it accepts
runs, serves reads, and takes over when the executor dies. Recovery folds the journal and goes on.

What does not belong here: decisions about a run (core), its life (runner), its storage (stores).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import structlog

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import CompiledWorkflow, ConcurrencyRule
from app.engines.budget import open_children
from app.engines.bulk_intake import LIMIT_RETRY_SECONDS, BulkIntake
from app.engines.called_runs import CalledRuns, end_of
from app.engines.concurrency import key_of
from app.engines.control import RunControl
from app.engines.engine import (
    CancelReceipt,
    Draining,
    EngineStats,
    LimitReached,
    Listener,
    Overloaded,
    Submission,
)
from app.engines.facts import Fact
from app.engines.fleet import Fleet
from app.engines.history import History, new_history
from app.engines.identity import RunIdentity
from app.engines.live import LiveEvents
from app.engines.recovery import RunLoader, StoredRun
from app.engines.runner import Runner, RunnerTools
from app.engines.submitted import submitted_data
from app.engines.uptake import Uptake
from app.ports.errors import AlreadyExists, OrchestratorError, StoreError
from app.ports.lock import ExecutorLock
from app.ports.runs import RunRow, Store

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 5.0
"""How long a drain waits for a store that may be stuck."""
SHORTEST_LOOK = 0.01
"""Seconds between two passes at least."""
TERMINAL_TYPES = frozenset(kind.__name__ for kind in e.TERMINAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Bounds of one process."""

    max_active_runs: int = 2000
    max_pending_runs: int = 10_000
    poll_seconds: float = 1.0
    """How often a standby tries the lock, and an executor looks for runs that others accepted."""
    cancel_seconds: float = 5.0
    """How long a caller waits for a cancellation to be durable before being told that the store is out."""


class EmbeddedEngine:
    """Implements `app.engines.engine.Engine`."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        tools: RunnerTools,
        called: CalledRuns,
        live: LiveEvents,
        lock: ExecutorLock,
        limits: EngineLimits,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._loader = RunLoader(store, catalog)
        self._tools = tools
        self._live = live
        self._lock = lock
        self._limits = limits
        self._fleet = Fleet(tools.observer, self._runner_ended)
        self._uptake = Uptake(
            store=store,
            loader=self._loader,
            fleet=self._fleet,
            tools=tools,
            max_active=limits.max_active_runs,
            gave_up=self._gave_up,
        )
        self._backlog = self._uptake.backlog
        self._control = RunControl(
            fleet=self._fleet,
            uptake=self._uptake,
            lock=lock,
            clock=tools.clock,
            patience=limits.cancel_seconds,
        )
        self._intake = BulkIntake(
            runs=store.runs,
            decisions=tools.decisions,
            backlog=self._backlog,
            concurrency=self._uptake.concurrency,
            max_pending=limits.max_pending_runs,
            displace=self._displace,
        )
        called.connect(
            submit=self._submit_called, cancel=partial(self._control.cancel, reason="its caller ended")
        )
        self._draining = False
        self._stores = True  # the last run that came could be stored, so the next one may begin meanwhile
        self._work = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become executor (and recover what is unfinished) or standby."""
        if await self._lock.acquire():
            await self._uptake.pass_over()
        self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new, let runs end for `grace_seconds`, then let go of the rest.

        A run that was let go is in the journal; the next executor goes on with it.
        """
        self._draining = True
        await self._stop_supervisor()
        await self._fleet.drain(grace_seconds)
        # What was handed to the store must be in the journal before anybody else may fold it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._store.flush()
        await self._lock.release()

    async def _stop_supervisor(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None

    def stats(self) -> EngineStats:
        """Figures of this moment."""
        return EngineStats(
            role=self._role(),
            active=len(self._fleet),
            queued=self._backlog.size,
            max_active=self._limits.max_active_runs,
            max_queued=self._limits.max_pending_runs,
        )

    def _role(self) -> Literal["executor", "standby", "stopped"]:
        if self._supervisor is None or self._supervisor.done():
            return "stopped"
        return "executor" if self._lock.held else "standby"

    # --- submissions ----------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> None:
        """Accept a run; a caller that goes away in the meantime does not undo it."""
        if self._draining:
            raise Draining("the service is shutting down; submit to another instance or try again later")
        workflow = self._catalog.by_definition(submission.definition)
        rule = workflow.concurrency
        if rule is not None:
            submission = await self._limited(submission, rule)
        starts = self._can_start() and not self._is_full(submission.run, rule)
        if not starts and self._backlog.size >= self._limits.max_pending_runs:
            raise Overloaded(
                f"{self._backlog.size} runs are waiting already; try again later",
                retry_after=self._retry_after(),
            )
        await self._take_in(submission, self._new_runner(submission, workflow), starts=starts)

    async def submit_many(self, submissions: Sequence[Submission]) -> None:
        """Accept runs of one definition into the queue, all or none."""
        if self._draining:
            raise Draining("the service is shutting down; submit to another instance or try again later")
        self._intake.admit(len(submissions), retry_after=self._retry_after())
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fleet.spawn(self._accept_many(submissions, accepted))
        await accepted

    async def _accept_many(self, submissions: Sequence[Submission], accepted: asyncio.Future[None]) -> None:
        """Store runs in a task of the engine's own: a caller that goes away does not undo it."""
        rule = self._catalog.by_definition(submissions[0].definition).concurrency
        traceparent = self._tools.observer.traceparent()
        if await self._intake.store(submissions, rule, traceparent, accepted):
            self._report_load()
            self._work.set()

    async def _submit_called(self, submission: Submission) -> None:
        """Accept a run that another one calls: it was admitted with its caller, so there is room for it."""
        workflow = self._catalog.by_definition(submission.definition)
        rule = workflow.concurrency
        if rule is not None:
            submission = await self._limited(submission, rule)
        starts = self._can_start() and not self._is_full(submission.run, rule)
        await self._take_in(submission, self._new_runner(submission, workflow), starts=starts)

    async def _limited(self, submission: Submission, rule: ConcurrencyRule) -> Submission:
        """The submission with its concurrency key. Raises `LimitReached` where the rule says so."""
        key = await self._tools.decisions.concurrency_key(rule, submission.inputs)
        run = replace(submission.run, concurrency_key=key)
        if not self._uptake.concurrency.kept:
            await self._uptake.concurrency.look()
        if self._is_full(run, rule):
            if rule.on_limit == "reject":
                raise LimitReached(
                    f"{rule.limit} runs of workflow {run.workflow!r} with the concurrency key {key!r} are "
                    "under way; try again when one of them has ended",
                    retry_after=LIMIT_RETRY_SECONDS,
                )
            if rule.on_limit == "cancel_oldest":
                self._displace(run)
        return replace(submission, run=run)

    def _displace(self, run: RunRow) -> None:
        self._fleet.spawn(self._make_room(run))

    async def _make_room(self, run: RunRow) -> None:
        """End the oldest run of a key; a newer one takes its place."""
        with contextlib.suppress(OrchestratorError):  # it has ended meanwhile, or ends elsewhere
            oldest = await self._store.runs.oldest_of_key(run.tenant, run.workflow, run.concurrency_key or "")
            if oldest is not None and oldest.id != run.id:
                await self._control.cancel(oldest.id, reason=f"run {run.id} took its place")

    def _is_full(self, run: RunRow, rule: ConcurrencyRule | None) -> bool:
        return self._uptake.concurrency.full(key_of(run), rule)

    async def _take_in(self, submission: Submission, runner: Runner, *, starts: bool) -> None:
        if submission.run.id in self._fleet:
            raise AlreadyExists(f"run {submission.run.id!r} is under way: give a new run a new id")
        # The place is taken before anything is awaited: a burst must not slip past the bounds.
        counted = False
        if starts:
            self._fleet.add(runner)
            counted = self._uptake.concurrency.began(key_of(runner.run), runner.run.run_id)
        else:
            self._backlog.admitted()
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fleet.spawn(self._accept(submission, runner, accepted, starts=starts, counted=counted))
        await accepted

    def _new_runner(self, submission: Submission, workflow: CompiledWorkflow) -> Runner:
        run = submission.run
        identity = RunIdentity(
            run_id=run.id,
            tenant=run.tenant,
            workflow=run.workflow,
            labels=run.labels,
            priority=run.priority,
            caller=None if submission.caller is None else submission.caller[0],
            depth=submission.depth,
            concurrency_key=run.concurrency_key,
        )
        return Runner(identity, workflow, new_history(run.id, workflow.plan), self._tools)

    async def _accept(
        self,
        submission: Submission,
        runner: Runner,
        accepted: asyncio.Future[None],
        *,
        starts: bool,
        counted: bool,
    ) -> None:
        """Store a run, tell whoever waits, and drive it: all in one task, which is the engine's own."""
        traceparent = self._tools.observer.traceparent()
        driving = self._tools.observer.driving(runner.run, traceparent) if starts else nullcontext()
        with driving:
            await self._store_and_drive(
                submission, runner, accepted, traceparent, starts=starts, counted=counted
            )

    async def _store_and_drive(
        self,
        submission: Submission,
        runner: Runner,
        accepted: asyncio.Future[None],
        traceparent: str | None,
        *,
        starts: bool,
        counted: bool,
    ) -> None:
        try:
            await self._create(submission, runner, traceparent, starts=starts)
        except BaseException as error:
            await runner.discard()
            self._stores = False
            if starts:
                self._fleet.remove(runner)
            else:
                self._backlog.refused()
            if counted:
                self._uptake.concurrency.ended(key_of(runner.run), runner.run.run_id, begun=True)
            if isinstance(error, asyncio.CancelledError):
                accepted.cancel()
                raise
            if accepted.done():
                log.warning("submission.refused", run_id=submission.run.id, error=type(error).__name__)
            else:
                accepted.set_exception(error)
            return
        self._stores = True
        if not accepted.done():
            accepted.set_result(None)
        if starts:
            self._report_load()
            await self._fleet.drive(runner)
        else:
            self._backlog.stored()
            self._report_load()
            if len(self._fleet) < self._limits.max_active_runs:
                self._work.set()

    async def _create(
        self, submission: Submission, runner: Runner, traceparent: str | None, *, starts: bool
    ) -> None:
        run = submission.run
        data = submitted_data(submission) | {"traceparent": traceparent}
        facts = [Fact(event=e.RunSubmitted(at=run.created_at), data=data)]
        if starts:
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
        await self._store.runs.create(
            row,
            batch.rows,
            submission.definition,
            submission.idempotency,
            change=change,
            webhook=submission.webhook,
        )

    def _can_start(self) -> bool:
        concurrency = self._uptake.concurrency
        executes = self._lock.held and concurrency.kept and not self._fleet.closed
        in_turn = self._backlog.size <= len(concurrency)
        return executes and in_turn and len(self._fleet) < self._limits.max_active_runs

    def _retry_after(self) -> int:
        return min(60, max(1, self._backlog.size // max(1, self._limits.max_active_runs)))

    def _runner_ended(self, runner: Runner) -> None:
        """A runner stopped: its place is free, and whoever called its run hears of the end."""
        self._report_load()
        history = runner.history
        if runner.ended:
            self._run_ended(runner.run, history)
        if self._backlog.size or self._wakes_soon(history):
            self._work.set()

    def _run_ended(self, run: RunIdentity, history: History) -> None:
        begun = history.started_at is not None
        self._uptake.concurrency.ended(key_of(run), run.run_id, begun=begun)
        if (caller := history.caller) is not None:
            run_id, path = caller
            fact = end_of(history, path, self._tools.clock.now())
            self._fleet.spawn(self._control.tell(run_id, fact))

    def _gave_up(self, stored: StoredRun) -> None:
        """A run was ended because nobody could drive it: what it called ends with it."""
        self._run_ended(stored.identity, stored.history)
        for path in open_children(stored.history):
            called = stored.history.state.steps[path].control
            if called is not None and called.child is not None:
                self._fleet.spawn(self._end_called(called.child))

    async def _end_called(self, run_id: str) -> None:
        with contextlib.suppress(OrchestratorError):  # it has ended, or was never handed in
            await self._control.cancel(run_id, reason="its caller ended")

    def _wakes_soon(self, history: History) -> bool:
        """Whether the supervisor has to look at the clock sooner than it would: a run was parked."""
        due_at, planned = history.wake_at, self._uptake.wake_at
        return history.state.parked and due_at is not None and (planned is None or due_at < planned)

    def _report_load(self) -> None:
        self._tools.observer.load(len(self._fleet), self._backlog.size)

    async def _supervise(self) -> None:
        """Take stored runs up; while standing by, try to become the executor."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._next_look()):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._look_after()
            except StoreError:
                log.warning("engine.store_unavailable", exc_info=True)
            except Exception:
                # Whatever it is, the next pass may succeed, and without passes nothing goes on.
                log.exception("engine.pass_failed")

    def _next_look(self) -> float:
        """Seconds until the next pass: the poll, or the time at which the next parked run is due."""
        seconds = self._limits.poll_seconds
        if self._uptake.wake_at is not None:
            seconds = min(seconds, max(SHORTEST_LOOK, self._uptake.wake_at - self._tools.clock.now()))
        return seconds

    async def _look_after(self) -> None:
        if self._lock.held:
            await self._uptake.pass_over()
        elif await self._lock.acquire():
            log.info("engine.took_over")
            await self._uptake.pass_over()
        else:
            await self._uptake.recount()
        self._report_load()

    # --- control --------------------------------------------------------------------------------------

    async def cancel(self, run_id: str, *, reason: str | None) -> CancelReceipt:
        """End a run early, wherever it is in its life."""
        return await self._control.cancel(run_id, reason=reason)

    async def pause(self, run_id: str, *, reason: str | None) -> None:
        """Start nothing further of a run."""
        await self._control.pause(run_id, reason=reason)

    async def resume(self, run_id: str, *, budget: Mapping[str, Any] | None = None) -> None:
        """Go on with a paused run."""
        await self._control.resume(run_id, budget=budget)
        self._work.set()

    async def answer(self, run_id: str, path: str, *, action: str, data: Any, by: str | None) -> None:
        """Answer an approval of a run."""
        await self._control.answer(run_id, path, action=action, data=data, by=by)

    # --- news -----------------------------------------------------------------------------------------

    def listen(self, run_id: str) -> AbstractContextManager[Listener]:
        """Hear of a run's new events."""
        return self._live.listen(run_id)

    async def wait(self, run_id: str) -> History:
        """The ended run, once it has ended."""
        with self._fleet.waiters.waiting(run_id) as ended:
            return await self._end_of(run_id, ended)

    async def _end_of(self, run_id: str, ended: asyncio.Future[History]) -> History:
        """Wait for this process to end the run or, where another may execute it, look at the store."""
        seen = 0
        while run_id not in self._fleet and not ended.done():
            rows = await self._store.journal.read(run_id, after=seen)
            if rows:
                seen = rows[-1].seq
                if rows[-1].type in TERMINAL_TYPES and (stored := await self._loader.load(run_id)):
                    return stored.history
            await asyncio.wait({ended}, timeout=self._limits.poll_seconds)
        return await ended
