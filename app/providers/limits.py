"""Bounds on the calls to one instance or to one of its models: at once, a minute, tokens a minute.

All runs of the process share them, and tenants share them fairly: whoever waits is served in turn by
tenant, and within a tenant in the order they came. A call that finds room and nobody waiting enters
without a task, a future or a timer. Whoever waits holds nothing: one that is cancelled, or whose time is
up, leaves the queue at once, and a slot that was granted to a call which is gone goes to the next.

There is no task of its own; one timer wakes the limiter for whatever is due first.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from app.ports.provider_status import Bounds
from app.providers.rates import Rate

SPARE: Final = 64
"""Deadlines of waiters that are gone which are kept before they are cleared away."""


class _Waiter:
    """A call that waits; its future comes true when it may enter, and false when its time is up."""

    __slots__ = ("deadline", "granted", "tenant", "tokens")

    def __init__(self, granted: asyncio.Future[bool], tenant: str, tokens: int, deadline: float) -> None:
        self.granted = granted
        self.tenant = tenant
        self.tokens = tokens
        self.deadline = deadline

    def __lt__(self, other: _Waiter) -> bool:
        return self.deadline < other.deadline


class Limiter:
    """One set of bounds. Every entry is ended by exactly one `leave` or `undo` with its tokens."""

    def __init__(self, bounds: Bounds, monotonic: Callable[[], float]) -> None:
        """Bounds are at least 1; `monotonic` gives seconds."""
        now = monotonic()
        self._monotonic = monotonic
        self._most = bounds.max_concurrency
        self._requests = None if bounds.requests_per_minute is None else Rate(bounds.requests_per_minute, now)
        self._tokens = None if bounds.tokens_per_minute is None else Rate(bounds.tokens_per_minute, now)
        self._rated = self._requests is not None or self._tokens is not None
        self._queues: OrderedDict[str, OrderedDict[_Waiter, None]] = OrderedDict()
        """Who waits, by tenant; the tenant whose turn it is comes first."""
        self._deadlines: list[_Waiter] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self.in_flight = 0
        self.waiting = 0

    def enter_now(self, tokens: int) -> bool:
        """Enter if there is room and nobody waits for it."""
        if self.waiting or (self._most is not None and self.in_flight >= self._most):
            return False
        if self._rated:
            if self._ready_in(tokens, self._monotonic()) > 0:
                return False
            self._take(tokens)
        self.in_flight += 1
        return True

    async def enter(self, tenant: str, tokens: int, deadline: float) -> bool:
        """Wait to enter, until `deadline` on the limiter's clock; False when that came first."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), tenant, tokens, deadline)
        self._queues.setdefault(tenant, OrderedDict())[waiter] = None
        heappush(self._deadlines, waiter)
        self.waiting += 1
        self._serve()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.cancelled():
                self._remove(waiter)
                self._tidy()
                self._serve()
            elif waiter.granted.result():
                self.undo(tokens)
            raise

    def leave(self, tokens: int, used: int | None) -> None:
        """End an entry; `used` tokens count instead of those reserved, where they are known."""
        self.in_flight -= 1
        if self._tokens is not None and used is not None:
            self._tokens.settle(tokens, used)
        if self.waiting:
            self._serve()

    def undo(self, tokens: int) -> None:
        """End an entry of which no call came."""
        if self._requests is not None:
            self._requests.settle(1, 0)
        self.leave(tokens, 0)

    def retry_after(self, tokens: int) -> float:
        """Seconds until a call of that size could be let in, as far as that is known; at least one."""
        return max(1.0, self._ready_in(tokens, self._monotonic()))

    def _ready_in(self, tokens: int, now: float) -> float:
        seconds = 0.0 if self._requests is None else self._requests.ready_in(1, now)
        return seconds if self._tokens is None else max(seconds, self._tokens.ready_in(tokens, now))

    def _take(self, tokens: int) -> None:
        if self._requests is not None:
            self._requests.take(1)
        if self._tokens is not None:
            self._tokens.take(tokens)

    def _serve(self) -> None:
        """Let in whoever may enter, send away whose time is up, and see to it that this is done again."""
        now = self._monotonic()
        due = self._send_away(now)
        while self._queues and (self._most is None or self.in_flight < self._most):
            waiter = next(iter(next(iter(self._queues.values()))))
            if waiter.granted.done():  # cancelled a moment ago
                self._remove(waiter)
                continue
            seconds = self._ready_in(waiter.tokens, now)
            if seconds > 0:
                due = now + seconds if due is None else min(due, now + seconds)
                break
            self._remove(waiter)
            if waiter.tenant in self._queues:
                self._queues.move_to_end(waiter.tenant)
            self._take(waiter.tokens)
            self.in_flight += 1
            waiter.granted.set_result(True)
        self._wake_at(due if self._queues else None, now)

    def _send_away(self, now: float) -> float | None:
        """End the wait of those whose time is up; when that is to be done next."""
        while self._deadlines:
            first = self._deadlines[0]
            if not first.granted.done():
                if first.deadline > now:
                    return first.deadline
                self._remove(first)
                first.granted.set_result(False)
            heappop(self._deadlines)
        return None

    def _remove(self, waiter: _Waiter) -> None:
        queue = self._queues.get(waiter.tenant)
        if queue is None or waiter not in queue:
            return
        del queue[waiter]
        if not queue:
            del self._queues[waiter.tenant]
        self.waiting -= 1

    def _tidy(self) -> None:
        if len(self._deadlines) > 2 * self.waiting + SPARE:
            self._deadlines = [one for one in self._deadlines if not one.granted.done()]
            heapify(self._deadlines)

    def _wake_at(self, due: float | None, now: float) -> None:
        """A timer that comes too early does no harm, so that it is seldom set anew."""
        if self._timer is not None:
            if due is not None and self._timer_at <= due:
                return
            self._timer.cancel()
            self._timer = None
        if due is not None:
            loop = asyncio.get_running_loop()
            self._timer_at = due
            self._timer = loop.call_later(max(due - now, 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._serve()
