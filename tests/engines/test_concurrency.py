"""Concurrency limits of workflows: what becomes of a run too many."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.engines.engine import LimitReached
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, llm, workflow


def limited(on_limit: str, limit: int = 1) -> dict[str, Any]:
    rule = {"key": "{{ inputs.customer }}", "limit": limit, "on_limit": on_limit}
    return workflow(llm("a"), concurrency=rule)


class Gate:
    """Lets the model answer when told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, *_: Any) -> str:
        await self.open.wait()
        return "x"


async def status(it: Bench, run_id: str) -> str:
    return (await it.read(run_id)).status


async def test_a_run_too_many_is_refused() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        first = await it.submit(limited("reject"), {"customer": "a"})
        with pytest.raises(LimitReached):
            await it.submit(limited("reject"), {"customer": "a"})
        other = await it.submit(limited("reject"), {"customer": "b"})
        gate.open.set()
        assert (await it.finish(first)).status == "completed"
        assert (await it.finish(other)).status == "completed"
        assert (await it.finish(await it.submit(limited("reject"), {"customer": "a"}))).status == "completed"


async def test_runs_too_many_wait_for_each_other_in_order() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        runs = [await it.submit(limited("queue"), {"customer": "a"}) for _ in range(4)]
        free = await it.submit(limited("queue"), {"customer": "b"})
        await asyncio.sleep(0.1)
        assert [await status(it, run) for run in runs] == ["running", "pending", "pending", "pending"]
        assert await status(it, free) == "running"
        gate.open.set()
        ends = [await it.finish(run) for run in runs]
        starts = [end.started_at or 0.0 for end in ends]
        assert starts == sorted(starts)
        assert it.chat.most_in_flight <= 2


async def test_the_oldest_makes_room_for_the_newest() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        first = await it.submit(limited("cancel_oldest"), {"customer": "a"})
        second = await it.submit(limited("cancel_oldest"), {"customer": "a"})
        assert (await it.finish(first)).status == "cancelled"
        gate.open.set()
        assert (await it.finish(second)).status == "completed"


async def test_a_waiting_run_that_is_cancelled_leaves_its_place_in_the_queue() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        runs = [await it.submit(limited("queue"), {"customer": "a"}) for _ in range(3)]
        await asyncio.sleep(0.1)
        await it.engine.cancel(runs[1], reason=None)
        gate.open.set()
        assert [(await it.finish(run)).status for run in runs] == ["completed", "cancelled", "completed"]


async def test_the_limit_holds_across_a_restart() -> None:
    gate = Gate()
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=gate) as it:
        runs = [await it.submit(limited("queue"), {"customer": "a"}) for _ in range(3)]
    async with bench(store=store, script=gate) as it:
        await asyncio.sleep(0.1)
        assert [await status(it, run) for run in runs] == ["running", "pending", "pending"]
        gate.open.set()
        assert [(await it.finish(run)).status for run in runs] == ["completed"] * 3
