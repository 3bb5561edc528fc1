"""Where a transform runs: on the event loop if it is short, in a thread if it may be long.

One thread for all of a process: a second one would compete with the event loop for the interpreter and
make nothing faster. It is not one of the event loop's own threads, so that no amount of data to reshape
delays what else waits for those. While it works the interpreter changes between threads every 0.2 ms
(`app.ports.turns`); functions see to it that they make no single call that takes longer than 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from app.ports.turns import in_short_turns

T = TypeVar("T")

SHORT: Final = 4_000
"""Values, and texts of 32 characters, that a function gets through in a few milliseconds."""
_SHIFT: Final = 5


class Workbench:
    """Owns the thread, which starts with the first long work."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="transform")

    async def do(self, work: Callable[[], T], *, long: bool) -> T:
        """The result of `work`, which is abandoned on cancellation; what has begun ends by itself."""
        if not long:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, in_short_turns, work)


def is_long(value: Any) -> bool:
    """Whether a value holds more than `SHORT`; stops counting there."""
    left = SHORT
    waiting: list[Any] = [value]
    while waiting:
        current = waiting.pop()
        if isinstance(current, str):
            left -= len(current) >> _SHIFT
        elif isinstance(current, (dict, list)):
            left -= len(current)
            if left < 0:
                return True
            waiting.extend(current.values() if isinstance(current, dict) else current)
        if left < 0:
            return True
    return False
