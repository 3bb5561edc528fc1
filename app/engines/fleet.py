"""The runs that this process has in hand: their runners, the tasks that drive them, who waits for them.

Owns every task it starts. A runner that stops although its run has not ended leaves an orphan: the run is
in the journal, and the engine takes it up again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from app.engines.observer import RunObserver
from app.engines.runner import Runner
from app.engines.waiters import Waiters
from app.ports.errors import Fenced

log = structlog.get_logger(__name__)


class Fleet:
    """Runners by run id. `ended` is called with each of them after it stopped."""

    def __init__(self, observer: RunObserver, ended: Callable[[Runner], None]) -> None:
        self.waiters = Waiters()
        self.orphans: set[str] = set()
        """Runs whose runner stopped too early."""
        self.stops: Counter[str] = Counter()
        """How often that happened to a run since it last came to an end or to rest."""
        self.closed = False
        """It was drained: nothing is driven any more."""
        self._observer = observer
        self._ended = ended
        self._runners: dict[str, Runner] = {}
        self._driving: dict[Runner, asyncio.Task[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._runners)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runners

    def get(self, run_id: str) -> Runner | None:
        """The runner of a run that is in hand."""
        return self._runners.get(run_id)

    @property
    def known(self) -> frozenset[str]:
        """Runs that are driven here, or are to be taken up again."""
        return frozenset(self._runners) | self.orphans

    def add(self, runner: Runner) -> None:
        """Take a run in hand without driving it yet."""
        self._runners[runner.run.run_id] = runner
        self.orphans.discard(runner.run.run_id)

    def remove(self, runner: Runner) -> None:
        """Let go of a run."""
        if self._runners.get(runner.run.run_id) is runner:
            del self._runners[runner.run.run_id]

    def launch(self, runner: Runner) -> None:
        """Drive a run that was added."""
        self.spawn(self._launched(runner))

    async def _launched(self, runner: Runner) -> None:
        with self._observer.driving(runner.run, runner.history.traceparent):
            await self.drive(runner)

    def forget(self, run_id: str) -> None:
        """A run is nobody's orphan any more."""
        self.orphans.discard(run_id)
        self.stops.pop(run_id, None)

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task that `drain` waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self, grace_seconds: float) -> None:
        """Wait for all tasks, those they start included, then abort the rest; nothing is driven after it."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        while self._tasks and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self.closed = True

    async def let_go(self) -> None:
        """Abort whatever is being driven: another process goes on with it. This one may drive again."""
        tasks = [*self._driving.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.orphans.clear()
        self.stops.clear()

    async def drive(self, runner: Runner) -> None:
        """Drive a run that was added until its runner stops, in a task that is under `driving`."""
        run_id = runner.run.run_id
        if (task := asyncio.current_task(runner.loop)) is not None:
            self._driving[runner] = task
        try:
            await runner.drive()
            self.stops.pop(run_id, None)
        except Fenced:
            # Another process has it, or has had it: nothing is wrong with the run.
            log.warning("run.fenced", run_id=run_id)
            self.orphans.add(run_id)
        except Exception:
            log.exception("run.crashed", run_id=run_id)
            self.stopped(run_id)
        finally:
            self._driving.pop(runner, None)
            self.remove(runner)
            self.waiters.tell(run_id, runner.history if runner.ended else None)
            self._ended(runner)

    def stopped(self, run_id: str) -> None:
        """A runner stopped too early: its run is to be taken up again."""
        self.stops[run_id] += 1
        self.orphans.add(run_id)
