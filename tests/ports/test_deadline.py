"""A deadline ends blocks as `asyncio.timeout` does, which is asked beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from app.ports.deadline import Deadline

AGES = 60.0
Limit = Callable[[float], AbstractAsyncContextManager[object]]


def after(seconds: float) -> Deadline:
    loop = asyncio.get_running_loop()
    return Deadline(loop, loop.time() + seconds)


@asynccontextmanager
async def ours(seconds: float) -> AsyncIterator[None]:
    with after(seconds):
        yield


alike = pytest.mark.parametrize("limit", [asyncio.timeout, ours], ids=["asyncio", "ours"])


def this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


@alike
async def test_a_block_that_takes_too_long_is_ended(limit: Limit) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with limit(0.01):
            await asyncio.sleep(AGES)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert this_task().cancelling() == 0


@alike
async def test_a_time_that_has_passed_ends_the_block_at_its_next_wait(limit: Limit) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with limit(-1.0):
            begun.set()
            await asyncio.sleep(AGES)

    with pytest.raises(TimeoutError):
        await work()
    assert begun.is_set()


@alike
async def test_a_time_that_has_passed_ends_a_block_that_waits_for_the_loops_next_turn_only(
    limit: Limit,
) -> None:
    with pytest.raises(TimeoutError):
        async with limit(-1.0):
            await asyncio.sleep(0)


@alike
async def test_blocks_that_hardly_wait_are_ended_when_their_time_comes(limit: Limit) -> None:
    begun = time.monotonic()

    async def work() -> None:
        while time.monotonic() - begun < AGES:
            async with limit(begun + 0.02 - time.monotonic()):
                await asyncio.sleep(0)

    with pytest.raises(TimeoutError):
        await work()


@alike
async def test_a_task_that_was_cancelled_before_and_went_on_is_ended_alike(limit: Limit) -> None:
    async def work() -> int:
        try:
            await asyncio.sleep(AGES)
        except asyncio.CancelledError:
            with pytest.raises(TimeoutError):
                async with limit(0.01):
                    await asyncio.sleep(AGES)
        return this_task().cancelling()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    assert await task == 1


async def test_a_block_that_was_left_keeps_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    made: list[asyncio.TimerHandle] = []
    call_at = loop.call_at

    def noted(*args: Any) -> asyncio.TimerHandle:
        made.append(call_at(*args))
        return made[-1]

    monkeypatch.setattr(loop, "call_at", noted)
    with after(AGES):
        assert [timer.cancelled() for timer in made] == [False]
    assert [timer.cancelled() for timer in made] == [True]


@alike
async def test_a_block_that_ends_in_time_leaves_nothing_behind(limit: Limit) -> None:
    async with limit(0.02):
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert this_task().cancelling() == 0


@alike
async def test_an_error_of_the_block_is_told_as_it_is(limit: Limit) -> None:
    with pytest.raises(ValueError, match="its own"):
        async with limit(AGES):
            raise ValueError("its own")


@alike
@pytest.mark.parametrize("seconds", [AGES, 0.01], ids=["before the time", "at the same moment"])
async def test_a_task_that_somebody_cancels_is_cancelled(limit: Limit, seconds: float) -> None:
    async def work() -> None:
        async with limit(seconds):
            await asyncio.sleep(AGES)

    loop = asyncio.get_running_loop()
    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    loop.call_later(0.02, task.cancel)
    time.sleep(0.05)  # noqa: ASYNC251  both times come while the loop is held up
    with pytest.raises(asyncio.CancelledError):
        await task


@alike
async def test_the_inner_of_two_is_the_one_that_ends(limit: Limit) -> None:
    ended = False
    async with limit(AGES):
        with pytest.raises(TimeoutError):
            async with limit(0.01):
                await asyncio.sleep(AGES)
        await asyncio.sleep(0)
        ended = True
    assert ended


@alike
async def test_the_outer_of_two_ends_both(limit: Limit) -> None:
    async def inner() -> None:
        with pytest.raises(asyncio.CancelledError) as ended:
            async with limit(AGES):
                await asyncio.sleep(AGES)
        raise ended.value

    with pytest.raises(TimeoutError):
        async with limit(0.01):
            await inner()


@alike
async def test_a_block_that_does_not_let_itself_be_ended_goes_on(limit: Limit) -> None:
    ended = False
    async with limit(0.01):
        try:
            await asyncio.sleep(AGES)
        except asyncio.CancelledError:
            ended = True
    assert ended
    assert this_task().cancelling() == 0


async def test_the_time_can_be_let_come_early_and_once() -> None:
    async def work() -> None:
        with after(AGES) as deadline:
            deadline.expire()
            deadline.expire()
            await asyncio.sleep(AGES)

    with pytest.raises(TimeoutError):
        await work()
    assert this_task().cancelling() == 0


async def test_what_has_come_already_is_taken_although_the_time_is_let_come() -> None:
    came: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    begun: list[Deadline] = []

    async def work() -> str:
        with after(AGES) as deadline:
            begun.append(deadline)
            return await came

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    came.set_result("here")
    begun[0].expire()
    assert await task == "here"


async def test_the_time_let_come_in_a_block_that_waits_no_more_does_no_harm_outside() -> None:
    with after(AGES) as deadline:
        deadline.expire()
    await asyncio.sleep(0)
    assert this_task().cancelling() == 0


async def test_it_cannot_come_after_the_block() -> None:
    with after(AGES) as deadline:
        pass
    deadline.expire()
    await asyncio.sleep(0)
    assert this_task().cancelling() == 0


async def test_it_is_for_tasks() -> None:
    said: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def outside() -> None:
        with pytest.raises(RuntimeError) as caught:
            after(AGES).__enter__()
        said.set_result(str(caught.value))

    asyncio.get_running_loop().call_soon(outside)
    assert "in a task of its own loop" in await said
