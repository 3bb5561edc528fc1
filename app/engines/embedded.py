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
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import structlog

from app.core import events as e
from app.dsl.catalog import Catalog
from app.dsl.compiled import ConcurrencyRule
from app.engines.asked_elsewhere import AskedElsewhere
from app.engines.asking import Asking
from app.engines.budget import open_children
from app.engines.call_ends import end_of
from app.engines.called_runs import CalledRuns
from app.engines.concurrency import key_of
from app.engines.control import RunControl
from app.engines.engine import (
    CancelReceipt,
    EngineStats,
    Listener,
    Submission,
)
from app.engines.fleet import Fleet
from app.engines.following import following
from app.engines.history import History
from app.engines.identity import RunIdentity
from app.engines.intake import Intake
from app.engines.live import LiveEvents
from app.engines.recovery import RunLoader, StoredRun
from app.engines.runner import Runner, RunnerTools
from app.engines.succession import Succession
from app.engines.uptake import Uptake
from app.ports.errors import OrchestratorError, StoreError
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
            look_seconds=2 * limits.poll_seconds,
            ended=self._ended_without_runner,
            displace=self._displace,
        )
        self._backlog = self._uptake.backlog
        self._control = RunControl(
            fleet=self._fleet,
            uptake=self._uptake,
            lock=lock,
            clock=tools.clock,
            patience=limits.cancel_seconds,
        )
        self._asking = self._new_asking()
        self._asked = AskedElsewhere(store.inbox, store.journal, self._uptake, tools.clock)
        self._succession = Succession(store.runs, self._fleet, self._control.cancel)
        self._intake = self._new_intake()
        called.connect(
            submit=self._intake.submit_called,
            cancel=partial(self._control.cancel, reason="its caller ended"),
            pause=self._control.pause,
            resume=self._control.resume,
        )
        self._work = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    def _new_intake(self) -> Intake:
        return Intake(
            store=self._store,
            catalog=self._catalog,
            fleet=self._fleet,
            uptake=self._uptake,
            tools=self._tools,
            lock=self._lock,
            max_active=self._limits.max_active_runs,
            max_pending=self._limits.max_pending_runs,
            stored=self._run_stored,
            displace=self._displace,
        )

    def _new_asking(self) -> Asking:
        return Asking(
            store=self._store,
            loader=self._loader,
            clock=self._tools.clock,
            wake=self._wake,
            patience=self._limits.cancel_seconds,
        )

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Become executor (and recover what is unfinished) or standby."""
        if await self._lock.acquire():
            await self._pass_over()
        self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new, let runs end for `grace_seconds`, then let go of the rest.

        A run that was let go is in the journal; the next executor goes on with it.
        """
        self._intake.closed = True
        await self._stop_supervisor()
        heeding = asyncio.create_task(self._heed_standbys(), name="engine-drain")
        try:
            await self._fleet.drain(grace_seconds)
        finally:
            heeding.cancel()
            await asyncio.gather(heeding, return_exceptions=True)
        await self._asked.stop()
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
        await self._intake.submit(submission)

    async def submit_many(self, submissions: Sequence[Submission]) -> None:
        """Accept runs of one definition into the queue, all or none."""
        await self._intake.submit_many(submissions)

    def _run_stored(self, look: bool) -> None:
        self._report_load()
        if look:
            self._work.set()
        if not self._lock.held:
            self._live.work_waits()

    # --- ends -----------------------------------------------------------------------------------------

    def _runner_ended(self, runner: Runner) -> None:
        """A runner stopped: its place is free, and whoever called its run hears of the end."""
        self._report_load()
        history = runner.history
        if runner.ended:
            self._run_ended(runner.run, history)
        if self._backlog.size or history.status == "pending" or self._wakes_soon(history):
            self._work.set()

    def _run_ended(self, run: RunIdentity, history: History) -> None:
        self._uptake.concurrency.ended(key_of(run), run.run_id)
        if (caller := history.caller) is not None:
            run_id, path = caller
            fact = end_of(history, path, self._tools.clock.now())
            self._fleet.spawn(self._control.tell(run_id, fact))

    def _ended_without_runner(self, stored: StoredRun) -> None:
        """Nobody could drive a run, or another process ended it: what it called ends with it."""
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

    def _displace(self, run: RunRow, rule: ConcurrencyRule) -> None:
        self._succession.displace(run, rule)

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
            await self._pass_over()
        elif await self._lock.acquire():
            log.info("engine.took_over")
            # The lock may have been lost and won again; somebody else may have had it in between.
            self._uptake.begin_anew()
            await self._pass_over()
        else:
            if len(self._fleet):
                await self._step_down()
            await self._uptake.recount()
        self._report_load()

    async def _pass_over(self) -> None:
        # What was asked comes first: a run that is to be cancelled begins nothing.
        if not self._uptake.concurrency.kept:
            await self._uptake.concurrency.keep()
        try:
            await self._asked.pass_over()
        finally:
            await self._uptake.pass_over()

    async def _heed_standbys(self) -> None:
        """While runs end in peace, others may still ask something of them."""
        while self._lock.held:
            try:
                await self._asked.pass_over()
            except StoreError:
                log.warning("engine.store_unavailable", exc_info=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.poll_seconds):
                    await self._work.wait()
            self._work.clear()

    async def _step_down(self) -> None:
        """Another process has the lock: it goes on with the runs that this one has in hand."""
        log.warning("engine.stepped_down", runs=len(self._fleet))
        await self._fleet.let_go()
        self._uptake.begin_anew()

    def _wake(self, _: StoredRun) -> None:
        """Something was put into the inbox; by now it may be this process that executes."""
        self._live.work_waits()
        self._work.set()

    def look(self) -> None:
        """Look at the store soon: another process may have stored something to do."""
        self._work.set()

    # --- control --------------------------------------------------------------------------------------

    async def cancel(self, run_id: str, *, reason: str | None, request: str | None = None) -> CancelReceipt:
        """End a run early, wherever it is in its life."""
        return await self._whom.cancel(run_id, reason=reason, request=request)

    async def pause(self, run_id: str, *, reason: str | None, request: str | None = None) -> None:
        """Start nothing further of a run."""
        await self._whom.pause(run_id, reason=reason, request=request)

    async def resume(
        self, run_id: str, *, budget: Mapping[str, Any] | None = None, request: str | None = None
    ) -> None:
        """Go on with a paused run."""
        await self._whom.resume(run_id, budget=budget, request=request)
        self._work.set()

    async def answer(
        self,
        run_id: str,
        path: str,
        *,
        action: str,
        data: Any,
        by: str | None,
        request: str | None = None,
    ) -> None:
        """Answer an approval of a run."""
        await self._whom.answer(run_id, path, action=action, data=data, by=by, request=request)

    @property
    def _whom(self) -> RunControl | Asking:
        """Who does what is asked of runs: this process, or by way of the inbox the one that executes."""
        return self._control if self._control.serves else self._asking

    # --- news -----------------------------------------------------------------------------------------

    def listen(self, run_id: str) -> AbstractContextManager[Listener]:
        """Hear of a run's new events."""
        return following(self._live, self._store.journal, run_id, here=lambda: self._lock.held)

    async def wait(self, run_id: str) -> History:
        """The ended run, once it has ended."""
        while True:
            with self._fleet.waiters.waiting(run_id) as ended:
                history = await (ended if run_id in self._fleet else self._looked_for(run_id, ended))
            if history is not None:
                return history

    async def _looked_for(self, run_id: str, ended: asyncio.Future[History | None]) -> History | None:
        """Look at the store until the run has ended, here or elsewhere; None if this process let go of it."""
        seen, news = 0, asyncio.Event()
        with self._live.awaiting(run_id, news.set):
            while not ended.done():
                news.clear()
                rows = () if run_id in self._fleet else await self._store.journal.read(run_id, after=seen)
                if rows:
                    seen = rows[-1].seq
                    if rows[-1].type in TERMINAL_TYPES and (stored := await self._loader.load(run_id)):
                        return stored.history
                await self._either(ended, news)
        return await ended

    async def _either(self, ended: asyncio.Future[History | None], news: asyncio.Event) -> None:
        """Wait for one of them, until it is time for another look."""
        told = asyncio.ensure_future(news.wait())
        either: set[asyncio.Future[Any]] = {ended, told}
        try:
            seconds = self._limits.poll_seconds
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
