"""Turns of the interpreter: short while something computes, and as they were otherwise."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator

import pytest

from app.ports.turns import SHORT_SECONDS, SHORT_TURNS, computed

USUAL = 0.003
"""Not Python's own, so that it shows who sets what he found."""


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL)
    try:
        yield
        assert now() == USUAL
    finally:
        sys.setswitchinterval(before)


def now() -> float:
    return round(sys.getswitchinterval(), 6)


async def test_what_computes_shares_the_interpreter() -> None:
    assert await computed(lambda factor: (factor * 2, now()), 21) == (42, SHORT_SECONDS)
    assert now() == USUAL


async def test_what_fails_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError):
        await computed(lambda: 1 / 0)
    assert now() == USUAL


async def test_turns_stay_short_until_the_last_is_done() -> None:
    ends = [threading.Event(), threading.Event()]
    both = [asyncio.create_task(computed(end.wait, 10.0)) for end in ends]
    await until(SHORT_SECONDS)
    ends[0].set()
    assert await both[0]
    assert now() == SHORT_SECONDS
    ends[1].set()
    assert await both[1]
    assert now() == USUAL


async def test_work_that_nobody_waits_for_any_more_shares_until_it_ends() -> None:
    begun, end = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        end.wait(10.0)

    waiting = asyncio.create_task(computed(work))
    assert await asyncio.to_thread(begun.wait, 10.0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert now() == SHORT_SECONDS
    end.set()
    await until(USUAL)


def test_it_can_be_entered_again_within() -> None:
    with SHORT_TURNS:
        with SHORT_TURNS:
            assert now() == SHORT_SECONDS
        assert now() == SHORT_SECONDS
    assert now() == USUAL


async def until(seconds: float) -> None:
    async with asyncio.timeout(10.0):
        while now() != seconds:  # noqa: ASYNC110  the interpreter tells nobody
            await asyncio.sleep(0.005)
