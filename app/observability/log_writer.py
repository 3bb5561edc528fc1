"""Writes log lines from a thread of its own, so that a stuck pipe or a full disk never stops the service.

Lines wait in a bounded queue. When it is full the newest are dropped and counted, and the count is
written once there is room again: a log may have a gap, but it says so. Nothing here raises.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

CAPACITY: Final = 10_000
"""Lines that may wait."""
BATCH: Final = 500
"""Lines that go out in one write."""
CLOSE_SECONDS: Final = 2.0
LINGER_SECONDS: Final = 0.02
"""Lines gather for that long, so that a busy service does not wake this thread for each of them."""


class TextSink(Protocol):
    """The part of a text stream that is needed."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class LogWriter:
    """One stream's queue and thread. `dropped_line` words the notice about lost lines."""

    def __init__(
        self, stream: TextSink, *, dropped_line: Callable[[int], str], capacity: int = CAPACITY
    ) -> None:
        self._stream = stream
        self._dropped_line = dropped_line
        self._capacity = capacity
        self._lines: deque[str] = deque()
        self._dropped = 0
        self._closing = False
        self._changed = threading.Condition()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Hand a line over, without its line feed. Never waits for the stream."""
        with self._changed:
            if len(self._lines) >= self._capacity or self._closing:
                self._dropped += 1
                return
            self._lines.append(line)
            if len(self._lines) == 1:
                self._changed.notify()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what waits, for at most `timeout` seconds. Later lines are dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._ending.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._stream.write("\n".join(batch) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # A broken or closed stream: there is nobody left to tell.
                with self._changed:
                    self._dropped += len(batch)
            self._ending.wait(LINGER_SECONDS)

    def _take(self) -> list[str]:
        """Wait for lines; none means that it is over."""
        with self._changed:
            while not self._lines and not self._closing:
                self._changed.wait()
            batch = [self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]
            if batch and self._dropped:
                batch.append(self._dropped_line(self._dropped))
                self._dropped = 0
        return batch
