"""How long something took, on machines that now and then stand still.

A virtual machine may get no time for a second or more. A limit on what other processes do is about them, so
what the whole machine did not do is taken out: the time by which a thread that only sleeps woke too late.
Code in the same process that keeps the interpreter to itself would pass for a standstill, too.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

TICK_SECONDS: Final = 0.02
USUAL_SECONDS: Final = 0.1
"""Being late by less is how a busy machine is."""


class Stopwatch:
    """Runs as long as its context is open."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._stood_still = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Since the start, without standstills."""
        passed = time.monotonic() - self._started
        return passed - self.stood_still

    @property
    def stood_still(self) -> float:
        """Seconds in which nothing here went on, so far."""
        time.sleep(2 * TICK_SECONDS)  # one that is just over is known then
        return self._stood_still

    def _tick(self) -> None:
        before = time.monotonic()
        while not self._over.wait(TICK_SECONDS):
            now = time.monotonic()
            late = now - before - TICK_SECONDS
            if late > USUAL_SECONDS:
                self._stood_still += late
            before = now
