"""The one activity: takes a run up from its journal and drives the runner until the run ends or parks.

Temporal may place a run twice (a worker that was silent for too long and comes back). The journal decides
then: the worker that comes second appends, the other one is fenced, stops, and writes nothing.

What does not belong here: what a run does (runner, core), when it is executed (Temporal).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from app.core import events as e
from app.core.state import RunPhase
from app.engines.facts import Fact
from app.engines.history import History
from app.engines.recovery import RunLoader, StoredRun, UnreadableRun
from app.engines.runner import Runner, RunnerTools
from app.engines.temporal.contract import EXECUTE, Rest, Turn
from app.engines.temporal.controls import Controls
from app.engines.temporal.pulse import Pulse
from app.engines.timekeeping import Timekeeper
from app.ports.errors import Fenced, StoreError
from app.ports.runs import Store

log = structlog.get_logger(__name__)

MAX_STOPS: Final = 3
"""Times that a run is taken up again by this worker after its runner stopped too early."""
BEATS: Final = 5
"""Heartbeats within the time-out; the SDK sends every fourth of them."""
EARLY_SECONDS: Final = 0.5
"""A timer of Temporal's that is early by less wakes the run: the rest is waited for in memory."""
UNREADABLE_SECONDS: Final = 60.0
STORE_SECONDS: Final = 1.0
OTHER_STORE_SECONDS: Final = 5.0
FORGOTTEN: Final = timedelta(days=1)
"""After that long without a worker that knows it, a run was deleted while Temporal still had it."""
FLUSH_SECONDS: Final = 5.0

Ended = Callable[[StoredRun], None]


class RunActivities:
    """The activities of one worker. `ended` hears of every run that ended here, `gave_up` of every run that
    was ended because nobody could drive it."""

    def __init__(
        self,
        *,
        store: Store,
        loader: RunLoader,
        tools: RunnerTools,
        controls: Controls,
        pulse: Pulse,
        is_ours: Callable[[bytes], Awaitable[bool]],
        identity: str,
        ended: Ended,
        gave_up: Ended,
    ) -> None:
        """`is_ours` asks Temporal whether the holder of a task token still has that task."""
        self._pulse = pulse
        self._is_ours = is_ours
        self._store = store
        self._loader = loader
        self._tools = tools
        self._controls = controls
        self._identity = identity
        self._ended = ended
        self._gave_up = gave_up
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._stops: Counter[str] = Counter()

    @activity.defn(name=EXECUTE)
    async def execute_run(self, turn: Turn) -> Rest:
        """Go on with the run for as long as something can happen."""
        async with _beating():
            try:
                return await self._take_up(turn)
            except asyncio.CancelledError:
                await self._flush()
                details = activity.cancellation_details()
                if details is not None and details.cancel_requested:
                    raise  # somebody cancelled Temporal's workflow: whoever leads starts another
                log.info("run.let_go", run_id=turn.run_id)
                raise _again("this worker let go of the run", "HandedOver", 0.0) from None
            except Fenced as error:
                log.warning("run.fenced", run_id=turn.run_id)
                raise _again(str(error), "Fenced", 0.0) from error
            except UnreadableRun as error:
                log.exception("run.unreadable", run_id=turn.run_id)
                raise _again("another version may read it", "UnreadableRun", UNREADABLE_SECONDS) from error
            except StoreError as error:
                raise _again(str(error), type(error).__name__, STORE_SECONDS) from error

    async def _take_up(self, turn: Turn) -> Rest:
        await self._replace(turn.run_id)
        if self._pulse.doubtful() and not await self._is_ours(activity.info().task_token):
            log.info("run.let_go", run_id=turn.run_id)
            raise _again("another worker has the run", "HandedOver", 0.0)
        stored = await self._loader.load(turn.run_id)
        if stored is None:
            return self._not_here(turn.run_id)
        if stored.history.state.terminal:
            return Rest(ended=True)
        asked = await self._controls.facts(turn.run_id)
        rest = self._rest(stored.history)
        if stored.history.state.parked and not (turn.told or asked) and not _is_due(rest):
            return rest
        runner = Runner(stored.identity, stored.workflow, stored.history, self._tools)
        facts = [*self._first_facts(runner), *asked]
        if stored.history.state.phase is RunPhase.SUBMITTED and runner.run.concurrency_key is None:
            facts.append(self._start(stored.history))
        driving = asyncio.create_task(self._drive(runner, facts))
        self._driving[turn.run_id] = driving
        try:
            await self._finished(driving)
        except (Fenced, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("run.crashed", run_id=turn.run_id)
            return await self._stopped(turn.run_id, error)
        finally:
            if self._driving.get(turn.run_id) is driving:
                del self._driving[turn.run_id]
        self._stops.pop(turn.run_id, None)
        if runner.ended:
            self._ended(StoredRun(workflow=stored.workflow, history=runner.history))
            return Rest(ended=True)
        return self._rest(runner.history)

    def _not_here(self, run_id: str) -> Rest:
        """A run is stored before it is placed; so this is another store's, unless it was deleted long ago."""
        if activity.info().current_attempt_scheduled_time - activity.info().scheduled_time >= FORGOTTEN:
            return Rest(ended=True)
        told = (
            f"run {run_id!r} is not in this worker's store: give the API and its workers the same store.url, "
            "or data_dir, and each installation a temporal.task_queue of its own"
        )
        log.error("run.not_in_store", run_id=run_id, error=told)
        raise _again(told, "OtherStore", OTHER_STORE_SECONDS)

    async def _replace(self, run_id: str) -> None:
        """Let go of a run that this very worker still has in hand: Temporal gave it up for lost."""
        before = self._driving.pop(run_id, None)
        if before is not None:
            before.cancel()
            await asyncio.wait({before})

    async def _finished(self, driving: asyncio.Task[None]) -> None:
        """Wait for a task; a cancellation ends it first, so that nothing of the run goes on after this."""
        try:
            await asyncio.wait({driving})
        except asyncio.CancelledError:
            driving.cancel()
            await asyncio.wait({driving})
            raise
        driving.result()

    async def _drive(self, runner: Runner, facts: Sequence[Fact]) -> None:
        history = runner.history
        with self._tools.observer.driving(runner.run, history.traceparent):
            self._controls.took(runner)
            try:
                runner.fold(facts)
                await runner.drive()
            finally:
                self._controls.let_go(runner)
                runner.release()

    def _first_facts(self, runner: Runner) -> list[Fact]:
        return [replace(fact, data={"worker": self._identity}) for fact in runner.first_facts()]

    def _start(self, history: History) -> Fact:
        started = e.RunStarted(at=self._tools.clock.now(), timeout=history.timeout)
        return Fact(event=started, data={"worker": self._identity})

    def _rest(self, history: History) -> Rest:
        if history.wake_at is None:
            return Rest(ended=False)
        clock = self._tools.clock
        wake_at = history.wake_at + Timekeeper(clock, history.clock_noted).moved()
        return Rest(ended=False, seconds=max(0.0, wake_at - clock.now()))

    async def _stopped(self, run_id: str, error: Exception) -> Rest:
        """A runner stopped although its run has not ended; one that does so every time is ended as failed."""
        self._stops[run_id] += 1
        if self._stops[run_id] <= MAX_STOPS:
            delay = 2.0 ** self._stops[run_id]
            raise _again("an internal error; see the worker's log", "RunnerStopped", delay) from error
        message = f"the run stopped {MAX_STOPS + 1} times with an internal error; see the log"
        failure = e.Failure(error_class="internal", message=message)
        end = e.RunFailed(path=None, failure=failure, at=self._tools.clock.now())
        stored = await self._loader.give_up(run_id, end)
        if stored is not None:
            observer = self._tools.observer
            observer.observed(stored.identity, stored.workflow, stored.history, end)
            observer.durable(stored.identity, stored.history)
            self._gave_up(stored)
        return Rest(ended=True)

    async def _flush(self) -> None:
        """What was handed to the store is in the journal before anybody else may fold it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                await self._store.flush()


def _is_due(rest: Rest) -> bool:
    return rest.seconds is not None and rest.seconds <= EARLY_SECONDS


def _again(message: str, kind: str, seconds: float) -> ApplicationError:
    """What has Temporal give the run to a worker again, after that many seconds."""
    return ApplicationError(
        message,
        type=kind,
        next_retry_delay=timedelta(seconds=seconds),
        category=ApplicationErrorCategory.BENIGN,  # what is worth a line was logged where it happened
    )


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    """Tell Temporal again and again that this worker is alive: without it no cancellation arrives."""
    timeout = activity.info().heartbeat_timeout

    async def beat() -> None:
        while timeout is not None:
            # First the pause: Temporal counts from the start, and most runs have parked or ended by then.
            await asyncio.sleep(timeout.total_seconds() / BEATS)
            activity.heartbeat()

    beating = asyncio.create_task(beat(), name="heartbeat")
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
