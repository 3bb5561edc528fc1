"""How threads take turns with the event loop.

The interpreter runs one thread at a time, and one that waits for it asks for its turn after a while: 5 ms,
which is Python's own. The store's thread is asked for, and asks, some ten times a commit, so shorter turns
cost a run six to ten percent of its processor time. But a thread that computes takes whole turns between
any two steps of the event loop: with documents compiled beside it, a service made 32 runs a second where
it makes 130 with turns of 0.2 ms. So turns are short while something computes, and as they were otherwise.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SHORT_SECONDS: Final = 0.0002


class _ShortTurns:
    """A context, for any number of threads at once: turns are short until the last has left it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._inside = 0
        self._usual = 0.0

    def __enter__(self) -> None:
        with self._guard:
            self._inside += 1
            if self._inside == 1:
                self._usual = sys.getswitchinterval()
                sys.setswitchinterval(SHORT_SECONDS)

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        with self._guard:
            self._inside -= 1
            if self._inside == 0:
                sys.setswitchinterval(self._usual)


SHORT_TURNS: Final = _ShortTurns()
"""The interpreter's turns are a matter of the process, and so is this."""


async def computed(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of work that computes for long, in a thread of the event loop's.

    Cancelled, it is not waited for; what has begun ends by itself.
    """
    return await asyncio.to_thread(in_short_turns, work, *args, **kwargs)


def in_short_turns(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of work, in this thread, which is not the event loop's."""
    with SHORT_TURNS:
        return work(*args, **kwargs)
