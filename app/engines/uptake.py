"""Takes stored runs in hand: after a crash, from the queue, and after a runner stopped too early.

Every pass may be cut short by a store that cannot be read; what was not done is done in the next one. A
run that this version cannot read is left alone, counted out of the queue, and said in the log.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from weakref import WeakValueDictionary

import structlog

from app.core import events as e
from app.dsl.compiled import ConcurrencyRule
from app.engines.attempts import as_failure
from app.engines.backlog import Backlog
from app.engines.concurrency import ConcurrencyBook, key_of
from app.engines.engine import Draining
from app.engines.facts import Fact
from app.engines.fleet import Fleet
from app.engines.recovery import RunLoader, StoredRun, UnreadableRun
from app.engines.runner import Runner, RunnerTools
from app.engines.standstill import call_of, standstill
from app.engines.strays import Strays
from app.engines.timekeeping import Timekeeper
from app.ports.errors import Fenced
from app.ports.runs import RunRow, Store

log = structlog.get_logger(__name__)

RECOVERABLE = frozenset({"running", "cancelling", "paused"})
"""Statuses of runs that may not be parked."""
QUEUED = frozenset({"pending"})
MAX_RECOVERED = 100_000
LOOK_AHEAD = 500
"""Queued runs that are looked at together, for not all of them may begin."""
MOST_ASKED = 20
"""Parked runs that are asked whether the clock was set."""
Displace = Callable[[RunRow, ConcurrencyRule], None]
MAX_STOPS = 3
"""Times that a run is taken up again after its runner stopped too early."""


class Uptake:
    """One for an engine; `pass_over` is called again and again while the process executes.

    `ended` is told of a run that no runner of this process has ended: nobody could drive it, or another
    process has ended it. `displace` is told of one that has to wait for a place although it is to take that
    of the oldest one of its key.
    """

    def __init__(
        self,
        *,
        store: Store,
        loader: RunLoader,
        fleet: Fleet,
        tools: RunnerTools,
        max_active: int,
        ended: Callable[[StoredRun], None],
        displace: Displace,
        look_seconds: float = math.inf,
    ) -> None:
        self.backlog = Backlog()
        self.wake_at: float | None = None
        """When the next parked run is due; None where there is none, or no place for one."""
        self.untold = True
        """A parked run may not have heard of the end of a run that it called."""
        self._store = store
        self._loader = loader
        self._fleet = fleet
        self._tools = tools
        self._max_active = max_active
        self._ended = ended
        self._displace = displace
        self.concurrency = ConcurrencyBook(store.runs)
        self._time = Timekeeper(tools.clock)
        self._clock_set_back = False
        self._recovered = False
        self._lost = 0
        self._unreadable: set[str] = set()
        """In the queue."""
        self._unwakeable: set[str] = set()
        """Parked runs that cannot be read."""
        self._strays = Strays(store.runs, fleet, seconds=look_seconds)
        self._taking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def pass_over(self) -> None:
        """Recover, once; then adopt orphans and feed free places. Raises `StoreError` where it got stuck."""
        self.wake_at = None
        if not self._recovered:
            await self._recover()
        if self._fleet.orphans:
            await self._adopt(frozenset(self._fleet.orphans))
        if self._strays.due():
            await self._take_strays()
            await self.concurrency.check(self._fleet)
        if self.untold:
            await self._tell_callers()
        await self._heed_clock()
        await self._wake_due()
        await self._refill()

    def begin_anew(self) -> None:
        """Another process may have executed meanwhile: what this one knows is what the store will say."""
        self._recovered = False
        self._lost = 0
        self.untold = True
        self._unreadable.clear()
        self._unwakeable.clear()
        self.concurrency.let_go()

    async def recount(self) -> None:
        """Ask the store how many runs wait; those that cannot be read do not."""
        await self.backlog.recount(self._readable_count)

    async def _readable_count(self) -> int:
        return max(0, await self._store.runs.count(QUEUED) - len(self._unreadable))

    async def _recover(self) -> None:
        """Go on with every run that was in flight when the last executor died."""
        if not self.concurrency.kept:
            await self.concurrency.keep()
        rows = await self._store.runs.unfinished(limit=MAX_RECOVERED, statuses=RECOVERABLE)
        taken = [await self._take(row, parked=False) for row in rows]
        # What ended between the two looks at the store was never in hand here.
        await self.concurrency.check(self._fleet, all_keys=True)
        await self._note_clock()
        self._recovered = True
        write = log.warning if self._lost else log.info
        write("engine.recovered", runs=sum(taken), lost_attempts=self._lost)

    async def _take_strays(self) -> None:
        for row in await self._strays.found():
            if row.id not in self._unwakeable and await self._take(row, parked=False):
                log.warning("engine.stray_found", run_id=row.id)

    async def _tell_callers(self) -> None:
        """Have the runs taken up that may have missed the end of a run that they called."""
        self.untold = False
        try:
            await self._store.runs.wake_callers()
        except BaseException:
            self.untold = True
            raise

    async def _heed_clock(self) -> None:
        """Look at every parked run once where the clock was set back: it would be late by as much."""
        if self._time.moved() < 0:
            self._clock_set_back = True
        if self._clock_set_back:
            woken = await self._store.runs.wake_parked()
            self._clock_set_back = False
            log.warning("engine.clock_set_back", parked=woken)

    async def _note_clock(self) -> None:
        """The clock may have been set while nobody executed: the first run that was parked here tells."""
        here = self._tools.clock.machine
        for row in await self._store.runs.due(math.inf, limit=MOST_ASKED):
            stored = await self._read(row)
            noted = None if stored is None else stored.history.clock_noted
            if noted is not None and noted["id"] == here:
                self._time = Timekeeper(self._tools.clock, noted)
                return

    async def _wake_due(self) -> None:
        """Take up parked runs whose time has come, as far as there are places."""
        free = self._max_active - len(self._fleet)
        if free > 0:
            now = self._tools.clock.now()
            due = await self._store.runs.due(now, limit=free + len(self._unwakeable))
            taken = [await self._take(row) for row in due if row.id not in self._unwakeable]
            wake_at = await self._store.runs.next_wake()
            if any(taken) or (wake_at is not None and wake_at > now):
                self.wake_at = wake_at

    async def _refill(self) -> None:
        await self.recount()
        passed_over: frozenset[str] | None = None
        while self.backlog.size and (free := self._max_active - len(self._fleet)) > 0:
            # Whoever waits for a place of its key must not keep the others from theirs.
            before, passed_over = passed_over, self.concurrency.blocked | self._unreadable
            if passed_over == before:
                return
            limit = max(free, LOOK_AHEAD)
            for row in await self._store.runs.unfinished(limit=limit, statuses=QUEUED, exclude=passed_over):
                if len(self._fleet) >= self._max_active:
                    return
                if await self._take(row) or row.id in self._unreadable:
                    self.backlog.taken()

    async def _adopt(self, orphans: frozenset[str]) -> None:
        """Go on with runs whose runners stopped; one that does so every time is ended as failed."""
        rows = await self._store.runs.unfinished(limit=MAX_RECOVERED, statuses=RECOVERABLE | QUEUED)
        unfinished = {row.id: row for row in rows if row.id in orphans}
        for run_id in orphans:
            row = unfinished.get(run_id)
            if row is None:
                await self._left(run_id)
            elif self._fleet.stops[run_id] <= MAX_STOPS:
                await self._take(row)
            else:
                message = f"the run stopped {MAX_STOPS + 1} times with an internal error; see the log"
                await self._give_up(run_id, e.Failure(error_class="internal", message=message))

    async def _left(self, run_id: str) -> None:
        """A run whose runner stopped has ended, or is parked and may have lost what it was told."""
        with suppress(UnreadableRun):
            stored = await self._loader.load(run_id)
            if stored is not None and stored.history.state.terminal:
                self._ended(stored)
        self._fleet.forget(run_id)
        self.untold = True

    async def _give_up(self, run_id: str, failure: e.Failure) -> None:
        """End a run that is in nobody's hands as failed."""
        end = e.RunFailed(path=None, failure=failure, at=self._tools.clock.now())
        try:
            stored = await self._loader.give_up(run_id, end)
            if stored is not None:
                observer = self._tools.observer
                observer.observed(stored.identity, stored.workflow, stored.history, end)
                observer.durable(stored.identity, stored.history)
                self._fleet.waiters.tell(run_id, stored.history)
                self._ended(stored)
        except (Fenced, UnreadableRun):
            log.exception("run.left", run_id=run_id)
        self._fleet.forget(run_id)

    async def _take(self, row: RunRow, *, parked: bool = True) -> bool:
        """Bring a stored run into memory and go on with it; False if it cannot be or is here already.

        Without `parked` a run that waits for its time is left to it.
        """
        async with self._alone(row.id):
            return await self._take_alone(row, parked=parked)

    async def _take_alone(self, row: RunRow, *, parked: bool) -> bool:
        stored = None if row.id in self._fleet else await self._read(row)
        if stored is None or row.id in self._fleet or self._fleet.closed:
            return False
        state = stored.history.state
        if state.terminal or (state.parked and not parked):
            return False
        runner = Runner(stored.identity, stored.workflow, stored.history, self._tools)
        facts = list(runner.first_facts())
        self._lost += sum(isinstance(fact.event, e.AttemptLost) for fact in facts)
        if stored.history.status == "pending":
            if not await self._finds_place(row, stored):
                return False
            facts.append(self.start_fact(stored.history.timeout))
        try:
            self._go_on(runner, facts)
        except Exception:
            log.exception("run.crashed", run_id=row.id)
            self._fleet.stopped(row.id)
            return False
        return True

    async def _finds_place(self, row: RunRow, stored: StoredRun) -> bool:
        """Take a place of its key; a run that finds none waits, or is ended if it would wait for ever."""
        key, rule = key_of(row), stored.workflow.concurrency
        room = self.concurrency.holds(key, row.id) or not self.concurrency.full(key, rule)
        if key is None or rule is None or room:
            self.concurrency.began(key, row.id)
            return True
        call = call_of(row, rule, stored.identity.awaited_by)
        if call is not None:
            refusal = standstill(self.concurrency, row, rule, call)
            if refusal is not None:
                await self._give_up(row.id, as_failure(refusal))
                return False
            self.concurrency.waits_while_awaited(row.id, call)
        self.concurrency.wait(key, row.id)
        if rule.on_limit == "cancel_oldest":
            self._displace(row, rule)
        return False

    async def _read(self, row: RunRow) -> StoredRun | None:
        """The run; None for one that this version cannot read, which is left alone from here on."""
        try:
            return await self._loader.load(row.id)
        except UnreadableRun:
            log.exception("run.unreadable", run_id=row.id)
        self._fleet.forget(row.id)
        if row.status in QUEUED:
            self._unreadable.add(row.id)
            self.concurrency.ended(key_of(row), row.id)
        else:
            self._unwakeable.add(row.id)
        return None

    def _alone(self, run_id: str) -> asyncio.Lock:
        """To be held from reading a run until it is in hand: what was read is what there is by then."""
        return self._taking.setdefault(run_id, asyncio.Lock())

    async def take_with(self, run_id: str, facts: Sequence[Fact]) -> Runner | None:
        """Hand facts to a run, which is brought into memory if need be; None if it has ended.

        They are folded before anything else is decided. A run that waits for its turn does not begin by it.
        Raises `Draining`, `UnreadableRun`, `StoreError`.
        """
        async with self._alone(run_id):
            return await self._take_alone_with(run_id, facts)

    async def _take_alone_with(self, run_id: str, facts: Sequence[Fact]) -> Runner | None:
        present = self._fleet.get(run_id)
        stored = None if present is not None else await self._loader.load(run_id)
        present = self._fleet.get(run_id)
        if present is not None:
            for fact in facts:
                present.post(fact)
            return present
        if stored is None or stored.history.state.terminal:
            return None
        if self._fleet.closed:
            raise Draining("the service is shutting down; ask the process that goes on with the run")
        history = stored.history
        runner = Runner(stored.identity, stored.workflow, history, self._tools)
        queued = history.status == "pending"
        self._go_on(runner, [*runner.first_facts(), *facts])
        if queued and history.status != "pending":
            self.backlog.taken()
            self.concurrency.ended(key_of(runner.run), run_id)
        return runner

    def _go_on(self, runner: Runner, facts: list[Fact]) -> None:
        self._fleet.add(runner)
        try:
            runner.fold(facts)
        except BaseException:
            runner.release()
            self._fleet.remove(runner)
            raise
        if runner.history.started_at is not None:
            # Another process may have begun it when this one had counted already.
            self.concurrency.began(key_of(runner.run), runner.run.run_id)
        self._fleet.launch(runner)

    def start_fact(self, timeout: float | None) -> Fact:
        """The run is taken up for the first time, now."""
        return Fact(event=e.RunStarted(at=self._tools.clock.now(), timeout=timeout))
