"""A deadline for what is done thousands of times a second."""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """Ends a block of the current task at a time of the loop's: `asyncio.timeout_at`, made for many.

    The block is cancelled when the time has come, and leaves with `TimeoutError` instead; cancelled by
    somebody else, it leaves with `CancelledError`, whoever was first. To be entered once, in a task.

    asyncio's own asks twice which loop is running (`asyncio.timeout`: three times), and up to Python 3.11
    each is a system call. Here whoever keeps the loop says which it is.
    """

    __slots__ = ("_cancelling", "_expired", "_loop", "_task", "_timer", "_when")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        """`when`: seconds by the clock of `loop`; one that has passed ends the block at its next wait."""
        self._loop = loop
        self._when = when
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.Handle | None = None
        self._cancelling = 0
        """How often the task had been cancelled when it came in."""
        self._expired = False

    def __enter__(self) -> Deadline:
        task = self._task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError(
                "a deadline is entered in a task of its own loop: close what another loop has opened"
            )
        self._cancelling = task.cancelling()
        self._arm(self._when)
        return self

    def expire(self) -> None:
        """Let the time come with the loop's next turn, if it has not; nothing once the block was left."""
        if self._timer is not None and not self._expired:
            self._timer.cancel()
            self._arm(self._loop.time())

    def _arm(self, when: float) -> None:
        # One that has passed is not for the loop's timers, which come after all that is ready.
        loop = self._loop
        self._timer = loop.call_at(when, self._come) if when > loop.time() else loop.call_soon(self._come)

    def _come(self) -> None:
        if self._task is not None:
            self._expired = True
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        task, timer, self._timer = self._task, self._timer, None
        if timer is not None:
            timer.cancel()
        if (
            self._expired
            and task is not None
            and task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise TimeoutError from error
