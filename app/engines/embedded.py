"""The embedded engine: runs as asyncio tasks of this process.

Bounded: at most `max_active_runs` are in memory, the rest wait in the store by priority and age; past
`max_pending_runs` a submission is refused. One executor a store, by a lock: a process without it accepts
runs, serves reads, and takes over when the executor dies. Recovery folds the journal and goes on.

What does not belong here: decisions about a run (core), its life (runner), its storage (stores).
"""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import structlog

from app.core import events as e
from app.dsl.catalog import Catalog
from app.engines.engine import (
    CancelPending,
    CancelReceipt,
    Draining,
    EngineStats,
    HandedOver,
    Listener,
    Overloaded,
    RunEnded,
    StandingBy,
    Submission,
    receipt_of,
)
from app.engines.facts import Fact
from app.engines.fleet import Fleet
from app.engines.history import History, new_history
from app.engines.live import LiveEvents
from app.engines.recovery import RunLoader, StoredRun
from app.engines.runner import Runner, RunnerTools
from app.engines.uptake import Uptake
from app.ports.errors import StoreError
from app.ports.lock import ExecutorLock
from app.ports.runs import Store

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 5.0
"""How long a drain waits for a store that may be stuck."""
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
        self._fleet = Fleet(tools.observer, self._run_ended)
        self._uptake = Uptake(
            store=store,
            loader=self._loader,
            fleet=self._fleet,
            tools=tools,
            max_active=limits.max_active_runs,
        )
        self._backlog = self._uptake.backlog
        self._draining = False
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
        starts = self._can_start()
        if not starts and self._backlog.size >= self._limits.max_pending_runs:
            raise Overloaded(
                f"{self._backlog.size} runs are waiting already; try again later",
                retry_after=self._retry_after(),
            )
        runner = self._new_runner(submission)
        # The place is taken before anything is awaited: a burst must not slip past the bounds.
        if starts:
            self._fleet.add(runner)
        else:
            self._backlog.admitted()
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._fleet.spawn(self._accept(submission, runner, accepted, starts=starts))
        await accepted

    def _new_runner(self, submission: Submission) -> Runner:
        run = submission.run
        workflow = self._catalog.by_definition(submission.definition)
        stored = StoredRun(workflow=workflow, history=new_history(run.id, workflow.plan))
        return self._uptake.runner(run, stored)

    async def _accept(
        self, submission: Submission, runner: Runner, accepted: asyncio.Future[None], *, starts: bool
    ) -> None:
        """Store a run, tell whoever waits, and drive it: all in one task, which is the engine's own."""
        try:
            await self._create(submission, runner, starts=starts)
        except BaseException as error:
            runner.release()
            if starts:
                self._fleet.remove(runner)
            else:
                self._backlog.refused()
            if isinstance(error, asyncio.CancelledError):
                accepted.cancel()
                raise
            if accepted.done():
                log.warning("submission.refused", run_id=submission.run.id, error=type(error).__name__)
            else:
                accepted.set_exception(error)
            return
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

    async def _create(self, submission: Submission, runner: Runner, *, starts: bool) -> None:
        run = submission.run
        data = {
            "definition": submission.definition.hash,
            "tenant": run.tenant,
            "inputs": submission.inputs,
            "timeout": submission.timeout_seconds,
            "traceparent": self._tools.observer.traceparent(),
        }
        facts = [Fact(event=e.RunSubmitted(at=run.created_at), data=data)]
        if starts:
            facts.append(self._uptake.start_fact(submission.timeout_seconds))
        runner.fold(facts)
        history = runner.history
        row = replace(run, status=history.status, started_at=history.started_at, finished_at=history.ended_at)
        rows = runner.take_batch().rows
        await self._store.runs.create(row, rows, submission.definition, submission.idempotency)

    def _can_start(self) -> bool:
        return self._lock.held and not self._backlog.size and len(self._fleet) < self._limits.max_active_runs

    def _retry_after(self) -> int:
        return min(60, max(1, self._backlog.size // max(1, self._limits.max_active_runs)))

    def _run_ended(self) -> None:
        self._report_load()
        if self._backlog.size:
            self._work.set()

    def _report_load(self) -> None:
        self._tools.observer.load(len(self._fleet), self._backlog.size)

    async def _supervise(self) -> None:
        """Take stored runs up; while standing by, try to become the executor."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.poll_seconds):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._look_after()
            except StoreError:
                log.warning("engine.store_unavailable", exc_info=True)
            except Exception:
                # Whatever it is, the next pass may succeed, and without passes nothing goes on.
                log.exception("engine.pass_failed")

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
        if not self._lock.held:
            raise StandingBy("this process stands by; ask the one that executes, or try again later")
        durable: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        event = e.CancelRequested(reason=reason, at=self._tools.clock.now())
        fact = Fact(event=event, durable=durable)
        runner = self._fleet.get(run_id)
        receipt = receipt_of(runner.history) if runner else None
        if runner is not None:
            runner.post(fact)
        else:
            runner = await self._uptake.take_to_end(run_id, fact)
        if runner is None:
            raise _ended(run_id)
        await asyncio.wait({durable}, timeout=self._limits.cancel_seconds)
        _check_cancelled(run_id, durable)
        return receipt or receipt_of(runner.history)

    # --- news -----------------------------------------------------------------------------------------

    def listen(self, run_id: str) -> AbstractContextManager[Listener]:
        """Hear of a run's new events."""
        return self._live.listen(run_id)

    async def wait(self, run_id: str, *, seconds: float) -> History | None:
        """The ended run, or None if it has not ended within that time."""
        with self._fleet.waiters.waiting(run_id) as ended:
            try:
                async with asyncio.timeout(seconds):
                    return await self._end_of(run_id, ended)
            except TimeoutError:
                return None

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


def _ended(run_id: str) -> RunEnded:
    return RunEnded(f"run {run_id!r} has ended or is ending; there is nothing to cancel")


def _check_cancelled(run_id: str, durable: asyncio.Future[bool]) -> None:
    """Raise unless the cancellation is in the journal."""
    if not durable.done():
        raise CancelPending(
            f"the cancellation of run {run_id!r} is not stored yet, for the store takes no writes; "
            "it takes effect when the store does, look at the run then"
        )
    if durable.cancelled():
        raise HandedOver(
            f"the process let go of run {run_id!r} before the cancellation was stored; "
            "ask again, the process that goes on with the run will answer"
        )
    if not durable.result():
        raise _ended(run_id)
