"""How late the event loop is: the one number that tells a busy process from a wedged one.

A callback is due every `interval` seconds; what it is late by went to something that did not yield. The
probe is started and stopped by the loop's own thread; `since_last_tick` may be asked from any thread.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

from app.observability.recorder import Recorder

INTERVAL_SECONDS: Final = 0.25


class LoopLag:
    """Measures the running event loop from `start` to `stop`."""

    def __init__(self, recorder: Recorder, *, interval: float = INTERVAL_SECONDS) -> None:
        self._recorder = recorder
        self._interval = interval
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._ticked_at = 0.0
        self.latest = 0.0
        """Seconds by which the latest tick was late."""

    def start(self) -> None:
        """Begin; call it in a coroutine or callback of the loop to be measured."""
        self._ticked_at = monotonic()
        self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """End; harmless when it was not started."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def running(self) -> bool:
        """Whether ticks are to be expected."""
        return self._timer is not None

    def since_last_tick(self) -> float:
        """Seconds since the loop last ran the probe: about the interval at most while the loop is well."""
        return monotonic() - self._ticked_at

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._interval
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.latest = max(loop.time() - self._due, 0.0)
        self._ticked_at = monotonic()
        self._recorder.loop_lag(self.latest)
        self._schedule(loop)
