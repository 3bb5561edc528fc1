"""The Temporal engine as an API process sees it: accepts runs, has workers execute them, follows them.

A run is durable in the store before Temporal hears of it, so it is accepted while Temporal is away. One of
the processes leads, by the executor lock: it fires what is the business of one process (schedules, webhooks)
and sweeps up what Temporal has not heard of. A worker uses the same engine for the runs that its runs call;
it never leads.

What does not belong here: decisions about a run (core), its life (runner), its placement (Temporal).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, Literal

import structlog

from app.dsl.catalog import Catalog
from app.dsl.compiled import ConcurrencyRule
from app.engines.asking import Asking
from app.engines.budget import open_children
from app.engines.called_runs import CalledRuns
from app.engines.embedded import EngineLimits
from app.engines.engine import CancelReceipt, EngineStats, Listener, Submission
from app.engines.fleet import Fleet
from app.engines.following import following
from app.engines.history import History
from app.engines.intake import Intake
from app.engines.live import LiveEvents
from app.engines.recovery import RunLoader, StoredRun
from app.engines.runner import Runner, RunnerTools
from app.engines.succession import Succession
from app.engines.temporal.belonging import require_own_runs
from app.engines.temporal.following import Endings
from app.engines.temporal.outbox import NotPlaced, Outbox, Placer
from app.engines.temporal.queues import TaskQueues
from app.engines.temporal.sweep import Sweep
from app.engines.uptake import Uptake
from app.ports.errors import OrchestratorError, StoreError
from app.ports.lock import ExecutorLock
from app.ports.runs import RunRow, Store

log = structlog.get_logger(__name__)

ITEM_LOOK_SECONDS: Final = 0.2
"""How often a run asks for the ends of its items, which other workers have; one read for all of them."""
HAND_IN_SECONDS: Final = 2.0
"""How long a stop waits for runs that Temporal is being told of; the store has them in any case."""


class NeverHere:
    """The lock that intake asks: no run is ever executed in this process."""

    held = False

    async def acquire(self) -> bool:
        """Never."""
        return False

    async def release(self) -> None:
        """There is nothing to give up."""


class TemporalEngine:
    """Implements `app.engines.engine.Engine`."""

    def __init__(
        self,
        *,
        store: Store,
        catalog: Catalog,
        tools: RunnerTools,
        called: CalledRuns,
        live: LiveEvents,
        lock: ExecutorLock | None,
        placer: Placer,
        queues: TaskQueues,
        limits: EngineLimits,
    ) -> None:
        """Without a `lock` this process never leads."""
        self._store = store
        self._catalog = catalog
        self._tools = tools
        self._live = live
        self._lock = lock
        self._placer = placer
        self._queues = queues
        self._limits = limits
        self.loader = RunLoader(store, catalog)
        self.outbox = Outbox(placer)
        self._endings = Endings(store.runs, self.loader, live)
        self._sweep = Sweep(
            store=store,
            loader=self.loader,
            outbox=self.outbox,
            queues=queues,
            clock=tools.clock,
            displace=self._displace,
        )
        self._asking = Asking(
            store=store,
            loader=self.loader,
            clock=tools.clock,
            wake=self._wake,
            patience=limits.cancel_seconds,
        )
        self._fleet = Fleet(tools.observer, _nothing_runs_here)
        self._succession = Succession(store.runs, self._fleet, self._asking.cancel)
        self._uptake = self._new_uptake()
        self._intake = self._new_intake()
        self._connect(called)
        self.heard: Callable[[], None] = _nobody
        """Called when something may be in the inbox."""
        self._work = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None

    def _connect(self, called: CalledRuns) -> None:
        called.connect(
            submit=self._submit_called,
            cancel=partial(self._asking.cancel, reason="its caller ended"),
            pause=self._asking.pause,
            resume=self._asking.resume,
            look_seconds=ITEM_LOOK_SECONDS,
        )

    def _new_uptake(self) -> Uptake:
        """Counts what waits, for admission; it takes nothing up."""
        return Uptake(
            store=self._store,
            loader=self.loader,
            fleet=self._fleet,
            tools=self._tools,
            max_active=self._limits.max_active_runs,
            ended=self.gave_up,
            displace=self._displace,
        )

    def _new_intake(self) -> Intake:
        return Intake(
            store=self._store,
            catalog=self._catalog,
            fleet=self._fleet,
            uptake=self._uptake,
            tools=self._tools,
            lock=NeverHere(),
            max_active=self._limits.max_active_runs,
            max_pending=self._limits.max_pending_runs,
            stored=self._run_stored,
            displace=self._displace,
        )

    # --- life -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to place runs. Raises `PermanentError` if Temporal will never take any as configured."""
        try:
            await self.check()
        except NotPlaced as error:
            log.warning("temporal.away", error=str(error))
        self.outbox.start()
        self._supervisor = asyncio.create_task(self._supervise(), name="engine-supervisor")

    async def check(self) -> None:
        """Raise `PermanentError` if Temporal and this store do not fit, `NotPlaced` if it is away."""
        await self._placer.check()
        try:
            await require_own_runs(self._queues.all, self._placer, self._store.runs)
        except NotPlaced as error:  # what is refused one by one otherwise need not keep a process down
            log.warning("temporal.runs_not_listed", error=str(error))

    async def drain(self, grace_seconds: float) -> None:
        """Take nothing new; runs go on where they are."""
        self._intake.closed = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        await self._fleet.drain(grace_seconds)
        await self.outbox.stop(seconds=min(grace_seconds, HAND_IN_SECONDS))
        await self._endings.stop()
        if self._lock is not None:
            await self._lock.release()

    def stats(self) -> EngineStats:
        """Figures of this moment; nothing is ever active here."""
        return EngineStats(
            role=self._role(),
            active=0,
            queued=self._uptake.backlog.size,
            max_active=self._limits.max_active_runs,
            max_queued=self._limits.max_pending_runs,
        )

    def _role(self) -> Literal["executor", "gateway", "stopped"]:
        if self._supervisor is None or self._supervisor.done():
            return "stopped"
        return "executor" if self._lock is not None and self._lock.held else "gateway"

    async def _supervise(self) -> None:
        while True:
            try:
                await self._look_after()
            except StoreError:
                log.warning("engine.store_unavailable", exc_info=True)
            except Exception:
                # Whatever it is, the next pass may succeed, and without passes nothing is swept up.
                log.exception("engine.pass_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._limits.poll_seconds):
                    await self._work.wait()
            self._work.clear()

    async def _look_after(self) -> None:
        if self._lock is not None:
            held = self._lock.held
            if held or await self._lock.acquire():
                if not held:
                    self._sweep.begin_anew()
                await self._sweep.pass_over()
        await self._uptake.recount()
        self._tools.observer.load(0, self._uptake.backlog.size)

    # --- submissions ----------------------------------------------------------------------------------

    async def submit(self, submission: Submission) -> None:
        """Accept a run; a caller that goes away in the meantime does not undo it."""
        await self._intake.submit(submission)
        self._offer(submission)

    async def submit_many(self, submissions: Sequence[Submission]) -> None:
        """Accept runs of one definition, all or none."""
        await self._intake.submit_many(submissions)
        for submission in submissions:
            self._offer(submission)

    async def _submit_called(self, submission: Submission) -> None:
        await self._intake.submit_called(submission)
        self._offer(submission)

    def _offer(self, submission: Submission) -> None:
        """Place a run at once; one with a concurrency key is begun by whoever leads."""
        run = submission.run
        if self._catalog.by_definition(submission.definition).concurrency is not None:
            self._work.set()
        else:
            self.outbox.offer(run.id, queue=self._queues.of(run.tenant, run.labels))

    def _run_stored(self, look: bool) -> None:
        self._tools.observer.load(0, self._uptake.backlog.size)

    def _displace(self, run: RunRow, rule: ConcurrencyRule) -> None:
        self._succession.displace(run, rule)

    # --- ends -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Another process may have stored something to do: controls of runs that this one has in hand."""
        self.heard()

    def ended(self, stored: StoredRun) -> None:
        """A run ended in this process: whoever called it looks at it."""
        if stored.identity.concurrency_key is not None:
            self._work.set()
        if (caller := stored.history.caller) is None:
            return
        if stored.history.is_item:
            self._fleet.spawn(self._wake_resting(caller[0], stored))
        else:
            self._wake_caller(caller[0], stored)

    async def _wake_resting(self, caller: str, stored: StoredRun) -> None:
        """A run that is awake asks for its items' ends: a signal for each would only fill its history."""
        with contextlib.suppress(StoreError):
            if (await self._store.runs.statuses([caller])).get(caller) == "running":
                return
        self._wake_caller(caller, stored)

    def _wake_caller(self, caller: str, stored: StoredRun) -> None:
        queue = self._queues.of(stored.identity.tenant, stored.identity.labels)
        self.outbox.offer(caller, queue=queue, wake=True)

    def gave_up(self, stored: StoredRun) -> None:
        """A run was ended because nobody could drive it: what it called ends with it."""
        self.ended(stored)
        for path in open_children(stored.history):
            called = stored.history.state.steps[path].control
            if called is not None and called.child is not None:
                self._fleet.spawn(self._end_called(called.child))

    async def _end_called(self, run_id: str) -> None:
        with contextlib.suppress(OrchestratorError):  # it has ended, or was never handed in
            await self._asking.cancel(run_id, reason="its caller ended")

    # --- control --------------------------------------------------------------------------------------

    async def cancel(self, run_id: str, *, reason: str | None, request: str | None = None) -> CancelReceipt:
        """End a run early, wherever it is in its life."""
        return await self._asking.cancel(run_id, reason=reason, request=request)

    async def pause(self, run_id: str, *, reason: str | None, request: str | None = None) -> None:
        """Start nothing further of a run."""
        await self._asking.pause(run_id, reason=reason, request=request)

    async def resume(
        self, run_id: str, *, budget: Mapping[str, Any] | None = None, request: str | None = None
    ) -> None:
        """Go on with a paused run."""
        await self._asking.resume(run_id, budget=budget, request=request)

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
        await self._asking.answer(run_id, path, action=action, data=data, by=by, request=request)

    def _wake(self, stored: StoredRun) -> None:
        identity = stored.identity
        queue = self._queues.of(identity.tenant, identity.labels)
        self.outbox.offer(identity.run_id, queue=queue, wake=True)

    # --- news -----------------------------------------------------------------------------------------

    def listen(self, run_id: str) -> AbstractContextManager[Listener]:
        """Hear of a run's new events."""
        return following(self._live, self._store.journal, run_id, here=_never)

    async def wait(self, run_id: str) -> History:
        """The ended run, once it has ended."""
        return await self._endings.wait(run_id)


def _nothing_runs_here(_runner: Runner) -> None:
    """Of a fleet without runners."""


def _never() -> bool:
    """No API process executes runs."""
    return False


def _nobody() -> None:
    """Nothing is executed here that anybody could ask something of."""
