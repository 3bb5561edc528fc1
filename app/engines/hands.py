"""What one run has under way in this process: tasks, attempts, timers.

Owns every task it starts, and ends all of them with `abort`. News go back through `post`; a task that
raises what it may not raise is a defect, which the runner fails with. What does not belong here: what to
do (the core), when it may be done (the runner: once it is durable).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, assert_never

from app.core import commands as c
from app.core import events as e
from app.engines.facts import Fact
from app.engines.timekeeping import Timekeeper
from app.ports.clock import Clock

Post = Callable[[Fact], None]


class Hands:
    """Tasks and timers of one run."""

    def __init__(
        self,
        clock: Clock,
        time: Timekeeper,
        loop: asyncio.AbstractEventLoop,
        *,
        post: Post,
        defective: Callable[[BaseException], None],
        rested: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._time = time
        self._loop = loop
        self._post = post
        self._defective = defective
        self._rested = rested
        """Called when the last task has ended: the run may have nothing left to do for now."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._attempts: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._children: dict[str, asyncio.Task[None]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def idle(self) -> bool:
        """Whether no task is under way; timers may be."""
        return not self._tasks

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defective(defect)
        elif not self._tasks:
            self._rested()

    async def abort(self) -> None:
        """End every task, those that are started meanwhile included."""
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)

    # --- attempts and children ------------------------------------------------------------------------

    def attempt(
        self, command: c.StartAttempt, coroutine: Coroutine[Any, Any, None], over: Callable[[], None]
    ) -> None:
        """Run a try; `over` is called when it has ended, however."""
        key = (command.path, command.attempt)
        task = self._attempts[key] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(partial(self._attempt_over, key, over))

    def _attempt_over(self, key: tuple[str, int], over: Callable[[], None], task: asyncio.Task[None]) -> None:
        del self._attempts[key]
        over()
        self._over(task)
        if task.cancelled():
            self._cancelled(*key)

    def cancel(self, command: c.CancelAttempt) -> None:
        """Abort a try."""
        task = self._attempts.get((command.path, command.attempt))
        if task is not None:
            task.cancel()
        else:
            self._cancelled(command.path, command.attempt)

    def _cancelled(self, path: str, attempt: int) -> None:
        self._post(Fact(event=e.AttemptCancelled(path=path, attempt=attempt, at=self._clock.now())))

    def launch(self, path: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Hand another run in."""
        task = self._children[path] = self.spawn(coroutine)
        task.add_done_callback(lambda _: self._children.pop(path, None))

    async def launched(self, path: str) -> None:
        """Wait until another run is handed in, or that has failed."""
        task = self._children.get(path)
        if task is not None:
            await asyncio.wait({task})

    # --- timers ---------------------------------------------------------------------------------------

    def start_timer(self, command: c.StartTimer) -> None:
        """Report the timer's event when it is due."""
        key = _timer_key(command.timer)
        if key in self._timers:
            self.stop_timer(key)
        left = command.due_at - (self._clock if _is_instant(command) else self._time).now()
        self._await(key, command, self._loop.time() + left, left)

    def _await(self, key: str, command: c.StartTimer, due: float, left: float) -> None:
        delay = min(max(0.0, left), LOOK_SECONDS if _is_instant(command) else MAX_DELAY)
        self._timers[key] = self._loop.call_later(delay, self._fired, key, command, due)

    def _left(self, command: c.StartTimer, due: float) -> float:
        """Seconds until the clock says so, or until the loop's time `due` has come."""
        if _is_instant(command):
            return command.due_at - self._clock.now()
        return due - self._loop.time()

    def stop_timer(self, key: str) -> None:
        """Forget a timer; a path names that of its attempt, retry or wait."""
        handle = self._timers.pop(key, None)
        if handle is not None:
            handle.cancel()

    def look_again(self, seconds: float) -> None:
        """Have the run looked at after some time, though nothing may have happened until then."""
        self.stop_timer(_LOOK)
        self._timers[_LOOK] = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timers.pop(_LOOK, None)
        self._rested()

    def release(self) -> None:
        """Forget all of them, and whom to tell of news: a runner that is not referred to from here is freed
        when it ends, while one in a cycle waits for the garbage collector with all it holds."""
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        self._post = self._defective = self._rested = _nobody

    def _fired(self, key: str, command: c.StartTimer, due: float) -> None:
        self._timers.pop(key, None)
        if (left := self._left(command, due)) > EARLY:
            # The delay was capped, or the machine's clock was set back: nothing fires early.
            self._await(key, command, due, left)
            return
        now = self._clock.now()
        self._post(_fact(command.timer, command.due_at if 0 < command.due_at - now <= EARLY else now))


def _nobody(*_news: object) -> None:
    """The run was let go."""


MAX_DELAY = 3600.0
"""Longest that a timer sleeps at a stretch, in seconds."""
LOOK_SECONDS = 5.0
"""The same for one that goes by the clock, which may be set meanwhile."""
_LOOK = "look:"
"""No step has this path."""
EARLY = 0.05
"""Seconds by which the loop's clock and the machine's may differ."""


def _is_instant(command: c.StartTimer) -> bool:
    return isinstance(command.timer, c.WaitTimer) and command.timer.instant


def _timer_key(timer: c.Timer) -> str:
    if isinstance(timer, c.RunTimer):
        return ""
    return f"block:{timer.path}" if isinstance(timer, c.BlockTimer) else timer.path


def _fact(timer: c.Timer, now: float) -> Fact:
    match timer:
        case c.RunTimer():
            return Fact(event=e.RunTimeoutReached(at=now))
        case c.AttemptTimer(path=path, attempt=attempt):
            return Fact(event=e.AttemptTimedOut(path=path, attempt=attempt, at=now))
        case c.RetryTimer(path=path, attempt=attempt):
            return Fact(event=e.RetryDue(path=path, attempt=attempt, at=now))
        case c.WaitTimer(path=path):
            return Fact(event=e.WaitOver(path=path, at=now), data={"outputs": {}})
        case c.ApprovalTimer(path=path, action=action):
            silent = {"action": action, "data": None, "by": None}
            data = None if action is None else {"outputs": silent}
            return Fact(event=e.ApprovalExpired(path=path, at=now), data=data)
        case c.BlockTimer(path=path):
            return Fact(event=e.BlockTimedOut(path=path, at=now))
        case _:
            assert_never(timer)
