"""Takes stored runs in hand: after a crash, from the queue, and after a runner stopped too early.

Every pass may be cut short by a store that cannot be read; what was not done is done in the next one. A
run that this version cannot read is left alone, counted out of the queue, and said in the log.
"""

from __future__ import annotations

import structlog

from app.core import events as e
from app.engines.attempts import RunIdentity
from app.engines.backlog import Backlog
from app.engines.facts import Fact
from app.engines.fleet import Fleet
from app.engines.recovery import RunLoader, StoredRun, UnreadableRun
from app.engines.runner import Runner, RunnerTools
from app.ports.errors import Fenced
from app.ports.runs import RunRow, Store

log = structlog.get_logger(__name__)

RECOVERABLE = frozenset({"running", "cancelling"})
QUEUED = frozenset({"pending"})
MAX_RECOVERED = 100_000
MAX_STOPS = 3
"""Times that a run is taken up again after its runner stopped too early."""


class Uptake:
    """One for an engine; `pass_over` is called again and again while the process executes."""

    def __init__(
        self, *, store: Store, loader: RunLoader, fleet: Fleet, tools: RunnerTools, max_active: int
    ) -> None:
        self.backlog = Backlog()
        self._store = store
        self._loader = loader
        self._fleet = fleet
        self._tools = tools
        self._max_active = max_active
        self._recovered = False
        self._unreadable: set[str] = set()

    async def pass_over(self) -> None:
        """Recover, once; then adopt orphans and feed free places. Raises `StoreError` where it got stuck."""
        if not self._recovered:
            await self._recover()
        if self._fleet.orphans:
            await self._adopt(frozenset(self._fleet.orphans))
        await self._refill()

    async def recount(self) -> None:
        """Ask the store how many runs wait; those that cannot be read do not."""
        await self.backlog.recount(self._readable_count)

    async def _readable_count(self) -> int:
        return max(0, await self._store.runs.count(QUEUED) - len(self._unreadable))

    async def _recover(self) -> None:
        """Go on with every run that was in flight when the last executor died."""
        rows = await self._store.runs.unfinished(limit=MAX_RECOVERED, statuses=RECOVERABLE)
        for row in rows:
            await self._take(row)
        self._recovered = True
        log.info("engine.recovered", runs=len(rows))

    async def _refill(self) -> None:
        await self.recount()
        free = self._max_active - len(self._fleet)
        if not self.backlog.size or free <= 0:
            return
        unreadable = frozenset(self._unreadable)
        for row in await self._store.runs.unfinished(limit=free, statuses=QUEUED, exclude=unreadable):
            if await self._take(row) or row.id in self._unreadable:
                self.backlog.taken()

    async def _adopt(self, orphans: frozenset[str]) -> None:
        """Go on with runs whose runners stopped; one that does so every time is ended as failed."""
        rows = await self._store.runs.unfinished(limit=MAX_RECOVERED, statuses=RECOVERABLE | QUEUED)
        unfinished = {row.id: row for row in rows if row.id in orphans}
        for run_id in orphans:
            row = unfinished.get(run_id)
            if row is None:
                self._fleet.forget(run_id)
            elif self._fleet.stops[run_id] <= MAX_STOPS:
                await self._take(row)
            else:
                await self._give_up(run_id)

    async def _give_up(self, run_id: str) -> None:
        message = f"the run stopped {MAX_STOPS + 1} times with an internal error; see the log"
        failure = e.Failure(error_class="internal", message=message)
        try:
            history = await self._loader.give_up(run_id, failure, self._tools.clock.now())
            if history is not None:
                self._fleet.waiters.tell(run_id, history)
        except (Fenced, UnreadableRun):
            log.exception("run.left", run_id=run_id)
        self._fleet.forget(run_id)

    async def _take(self, row: RunRow) -> bool:
        """Bring a stored run into memory and go on with it; False if it cannot be or is here already."""
        if row.id in self._fleet:
            return False
        try:
            stored = await self._loader.load(row.id)
        except UnreadableRun:
            log.exception("run.unreadable", run_id=row.id)
            self._fleet.forget(row.id)
            if row.status in QUEUED:
                self._unreadable.add(row.id)
            return False
        if stored is None or stored.history.state.terminal or row.id in self._fleet:
            return False
        runner = self.runner(row, stored)
        facts = list(runner.lost_attempts())
        if stored.history.status == "pending":
            facts.append(self.start_fact(stored.history.timeout))
        self._go_on(runner, facts)
        return True

    async def take_to_end(self, run_id: str, cancel: Fact) -> Runner | None:
        """Bring a run that nobody drives into memory only to cancel it; None if it has ended.

        The cancellation is folded before anything else is decided, so nothing of the run starts.
        """
        stored = await self._loader.load(run_id)
        present = self._fleet.get(run_id)
        if present is not None:
            present.post(cancel)
            return present
        if stored is None or stored.history.state.terminal:
            return None
        history = stored.history
        identity = RunIdentity(run_id=run_id, tenant=history.tenant, workflow=stored.workflow.name, labels={})
        runner = Runner(identity, stored.workflow, history, self._tools)
        if history.status == "pending":
            self.backlog.taken()
        self._go_on(runner, [*runner.lost_attempts(), cancel])
        return runner

    def _go_on(self, runner: Runner, facts: list[Fact]) -> None:
        self._fleet.add(runner)
        try:
            runner.fold(facts)
        except BaseException:
            runner.release()
            self._fleet.remove(runner)
            raise
        self._fleet.launch(runner)

    def runner(self, run: RunRow, stored: StoredRun) -> Runner:
        """A runner for a run; nothing is started."""
        identity = RunIdentity(run_id=run.id, tenant=run.tenant, workflow=run.workflow, labels=run.labels)
        return Runner(identity, stored.workflow, stored.history, self._tools)

    def start_fact(self, timeout: float | None) -> Fact:
        """The run is taken up for the first time, now."""
        return Fact(event=e.RunStarted(at=self._tools.clock.now(), timeout=timeout))
