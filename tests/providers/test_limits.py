"""Bounds shared by all: never more than they allow, tenants in turn, and nobody who left holds anything."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

import pytest

from app.ports.provider_status import Bounds
from app.providers.limits import SPARE, Limiter


def limiter(monotonic: Callable[[], float] = time.monotonic, **bounds: int) -> Limiter:
    return Limiter(Bounds(**bounds), monotonic)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


class Line:
    """Calls that wait for a limiter, and the order they came in."""

    def __init__(self, within: Limiter) -> None:
        self.within = within
        self.entered: list[str] = []

    def join(self, name: str, *, tenant: str = "", seconds: float = 30.0) -> asyncio.Task[bool]:
        async def wait() -> bool:
            entered = await self.within.enter(tenant, 1, soon(seconds))
            if entered:
                self.entered.append(name)
            return entered

        return asyncio.create_task(wait())

    async def drain(self, count: int) -> None:
        """End one call after another."""
        for _ in range(count):
            self.within.leave(1, None)
            await settle()


async def test_whoever_waits_is_not_overtaken() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    waiting = [line.join(str(number)) for number in range(3)]
    await settle()
    within.leave(1, None)
    assert not within.enter_now(1)
    await settle()
    assert line.entered == ["0"]
    await line.drain(2)
    assert line.entered == ["0", "1", "2"]
    assert await asyncio.gather(*waiting) == [True] * 3


async def test_tenants_are_served_in_turn_however_many_calls_one_of_them_makes() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    tasks = [line.join(f"a{number}", tenant="a") for number in range(5)]
    await settle()
    tasks += [line.join(f"b{number}", tenant="b") for number in range(2)]
    tasks += [line.join("c0", tenant="c")]
    await settle()
    await line.drain(8)
    assert line.entered == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4"]
    await asyncio.gather(*tasks)


async def test_whose_time_is_up_is_sent_away_and_the_others_wait_on() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    late, patient = line.join("late", seconds=0.02), line.join("patient")
    assert await late is False
    assert within.waiting == 1
    await line.drain(1)
    assert await patient is True
    assert within.retry_after(1) == 1.0


async def test_one_timer_serves_all_deadlines() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    seconds = [0.05, 0.01, 0.03, 0.02, 0.04]
    assert await asyncio.gather(*(line.join("x", seconds=it) for it in seconds)) == [False] * 5
    assert within._timer is None


async def test_a_cancelled_waiter_leaves_at_once() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    first, second, third = (line.join(str(number)) for number in range(3))
    await settle()
    first.cancel()
    third.cancel()
    await asyncio.gather(first, third, return_exceptions=True)
    assert within.waiting == 1
    await line.drain(1)
    assert await second is True
    assert (within.in_flight, within.waiting, within._timer) == (1, 0, None)


async def test_a_slot_granted_to_a_call_that_is_cancelled_then_goes_to_the_next() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    first, second = line.join("first"), line.join("second")
    await settle()
    within.leave(1, None)
    first.cancel()  # after the grant, before it is told
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second is True
    assert within.in_flight == 1


async def test_a_slot_that_comes_free_while_the_first_is_being_cancelled_goes_to_the_next() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    first, second = line.join("first"), line.join("second")
    await settle()
    first.cancel()
    within.leave(1, None)
    assert await second is True
    assert (within.in_flight, within.waiting) == (1, 0)


async def test_deadlines_of_those_who_left_are_not_kept() -> None:
    within = limiter(max_concurrency=1)
    assert within.enter_now(1)
    line = Line(within)
    for _ in range(20):
        tasks = [line.join("x") for _ in range(50)]
        await settle()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(within._deadlines) <= 2 * 50 + SPARE
    assert not within._queues


async def test_calls_that_come_go_and_are_cancelled_at_random_lose_no_slot() -> None:
    within, choose = limiter(max_concurrency=3, requests_per_minute=10**7), random.Random(7)
    most = 0

    async def call(number: int) -> None:
        nonlocal most
        if not within.enter_now(1) and not await within.enter(
            f"t{number % 5}", 1, soon(choose.random() / 20)
        ):
            return
        most = max(most, within.in_flight)
        try:
            for _ in range(choose.randrange(4)):
                await asyncio.sleep(0)
        finally:
            within.leave(1, None)

    tasks = []
    for number in range(2000):
        tasks.append(asyncio.create_task(call(number)))
        if choose.random() < 0.3:
            choose.choice(tasks).cancel()
        if choose.random() < 0.2:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (within.in_flight, within.waiting, most) == (0, 0, 3)
    assert not within._queues


# --- by the minute ------------------------------------------------------------------------------------


async def test_calls_beyond_the_rate_wait_for_it() -> None:
    within = limiter(requests_per_minute=6000)
    while within.enter_now(1):
        pass
    started = time.monotonic()
    line = Line(within)
    assert await asyncio.gather(*(line.join(str(number)) for number in range(10))) == [True] * 10
    assert time.monotonic() - started > 0.05
    assert line.entered == [str(number) for number in range(10)]


async def test_a_call_that_was_not_made_gives_back_what_it_took() -> None:
    within = limiter(lambda: 0.0, requests_per_minute=60, tokens_per_minute=2000)
    for _ in range(10):
        assert within.enter_now(50)
        within.undo(50)
    assert within.enter_now(50)


async def test_tokens_that_were_not_used_are_given_back() -> None:
    within = limiter(lambda: 0.0, tokens_per_minute=2000)
    assert within.enter_now(100)
    assert not within.enter_now(50)
    within.leave(100, 20)
    assert within.enter_now(50)


async def test_tokens_that_are_not_known_stay_reserved() -> None:
    within = limiter(lambda: 0.0, tokens_per_minute=2000)
    assert within.enter_now(100)
    within.leave(100, None)
    assert not within.enter_now(50)
    assert within.retry_after(50) > 1


async def test_large_calls_are_not_starved_by_small_ones() -> None:
    within = limiter(tokens_per_minute=600_000)
    assert within.enter_now(30_000)
    order = []

    async def call(tokens: int) -> None:
        assert await within.enter("", tokens, soon())
        order.append(tokens)

    tasks = [asyncio.create_task(call(tokens)) for tokens in (2000, 1, 1)]
    await settle()
    assert not within.enter_now(1)
    await asyncio.gather(*tasks)
    assert order == [2000, 1, 1]
