"""Concurrency limits of workflows: what becomes of a run too many."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest
import uuid_utils

from app.engines.engine import LimitReached, Submission
from app.ports.runs import RunFilter
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.engines.harness import Bench, bench, eventually, llm, workflow


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


async def batch_of(it: Bench, document: dict[str, Any], customer: str, count: int) -> list[Submission]:
    """Submissions that differ from the newest run in little more than their ids."""
    compiled = it.catalog.compile(document)
    row = (await it.store.runs.list("default", RunFilter(), limit=1))[0]
    fresh = replace(row, status="pending", started_at=None, concurrency_key=None, created_at=time.time())
    return [
        Submission(
            run=replace(fresh, id=run_id), definition=compiled.definition, inputs={"customer": customer}
        )
        for run_id in sorted(str(uuid_utils.uuid7()) for _ in range(count))
    ]


async def status(it: Bench, run_id: str) -> str:
    return (await it.read(run_id)).status


async def test_a_run_too_many_is_refused() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        first = await it.submit(limited("reject"), {"customer": "a"})
        with pytest.raises(
            LimitReached, match="runs of workflow 'test' with the concurrency key 'a' at most 1 may"
        ):
            await it.submit(limited("reject"), {"customer": "a"})
        other = await it.submit(limited("reject"), {"customer": "b"})
        gate.open.set()
        assert (await it.finish(first)).status == "completed"
        assert (await it.finish(other)).status == "completed"


async def test_a_refusal_of_a_limit_without_a_key_names_none() -> None:
    gate = Gate()
    keyless = {**limited("reject"), "concurrency": {"limit": 1, "on_limit": "reject"}}
    async with bench(script=gate) as it:
        first = await it.submit(keyless, {"customer": "a"})
        with pytest.raises(LimitReached, match="of the runs of workflow 'test' at most 1 may be"):
            await it.submit(keyless, {"customer": "b"})
        two = [replace(one, inputs={"customer": "c"}) for one in await batch_of(it, keyless, "c", 2)]
        with pytest.raises(LimitReached, match="of the runs of workflow 'test' at most 1 may be"):
            await it.engine.submit_many(two)
        gate.open.set()
        assert (await it.finish(first)).status == "completed"
        assert (await it.finish(await it.submit(limited("reject"), {"customer": "a"}))).status == "completed"


async def test_a_process_that_does_not_execute_refuses_a_burst_before_any_of_it_began() -> None:
    slot = ExecutorSlot(holder=MemoryLock())
    document = limited("reject", limit=2)
    async with bench(lock=MemoryLock(slot)) as it:
        burst = [it.submit(document, {"customer": "a"}) for _ in range(6)]
        answers = await asyncio.gather(*burst, return_exceptions=True)
        assert sum(isinstance(answer, LimitReached) for answer in answers) == 4
        other = await it.submit(document, {"customer": "b"})
        assert await status(it, other) == "pending"
        for count, customer in ((1, "a"), (2, "b"), (3, "c")):
            with pytest.raises(LimitReached):
                await it.engine.submit_many(await batch_of(it, document, customer, count))
        await it.engine.submit_many(await batch_of(it, document, "b", 1))


async def test_a_process_that_does_not_execute_refuses_batches_that_come_at_once() -> None:
    slot = ExecutorSlot(holder=MemoryLock())
    document = limited("reject", limit=4)
    async with bench(lock=MemoryLock(slot)) as it:
        await it.submit(document, {"customer": "b"})
        batches = [await batch_of(it, document, "a", 2) for _ in range(4)]
        singles = [it.submit(document, {"customer": "a"}) for _ in range(2)]
        sent = [*(it.engine.submit_many(batch) for batch in batches), *singles]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        refused = [isinstance(answer, LimitReached) for answer in answers]
        assert 2 * refused[:4].count(False) + refused[4:].count(False) == 4
        rows = await it.store.runs.list("default", RunFilter(), limit=100)
        assert sum(row.concurrency_key == "a" for row in rows) == 4


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


@pytest.mark.parametrize("limit", [1, 2])
async def test_the_newest_runs_take_the_places_of_all_others_however_many_come_at_once(limit: int) -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        document = limited("cancel_oldest", limit)
        first = [await it.submit(document, {"customer": "a"}) for _ in range(limit)]
        other = await it.submit(document, {"customer": "b"})
        newcomers = await asyncio.gather(*(it.submit(document, {"customer": "a"}) for _ in range(5)))
        rows = await it.store.runs.list("default", RunFilter(), limit=100)
        stay = [row.id for row in rows if row.id in newcomers][:limit]
        overtaken = {*first, *newcomers} - {*stay}
        for run in overtaken:
            history = await it.finish(run)
            assert (history.status, history.started_at is None) == ("cancelled", run not in first)
            assert "took its place" in (history.cancel_reason or "")
        await eventually(lambda: it.engine.stats().active == limit + 1)
        assert [await status(it, run) for run in stay] == ["running"] * limit
        gate.open.set()
        assert {(await it.finish(run)).status for run in [*stay, other]} == {"completed"}


async def test_the_last_run_of_a_batch_takes_the_place_of_the_others() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        first = await it.submit(limited("cancel_oldest"), {"customer": "a"})
        batch = await batch_of(it, limited("cancel_oldest"), "a", 60)
        ids = [one.run.id for one in batch]
        await it.engine.submit_many(batch)
        for run in [first, *ids[:-1]]:
            assert (await it.finish(run)).status == "cancelled"
        gate.open.set()
        assert (await it.finish(ids[-1])).status == "completed"


async def test_a_waiting_run_that_is_cancelled_leaves_its_place_in_the_queue() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        runs = [await it.submit(limited("queue"), {"customer": "a"}) for _ in range(3)]
        await asyncio.sleep(0.1)
        await it.engine.cancel(runs[1], reason=None)
        gate.open.set()
        assert [(await it.finish(run)).status for run in runs] == ["completed", "cancelled", "completed"]


async def test_a_run_that_is_paused_in_the_queue_goes_back_to_it_when_it_is_resumed() -> None:
    gate = Gate()
    async with bench(script=gate) as it:
        runs = [await it.submit(limited("queue"), {"customer": "a"}) for _ in range(2)]
        await it.engine.pause(runs[1], reason=None)
        assert await status(it, runs[1]) == "paused"
        await it.engine.resume(runs[1])
        await asyncio.sleep(0.1)
        assert [await status(it, run) for run in runs] == ["running", "pending"]
        gate.open.set()
        ends = [await it.finish(run) for run in runs]
        assert [end.status for end in ends] == ["completed", "completed"]
        assert (ends[1].started_at or 0.0) >= (ends[0].ended_at or 0.0)


async def test_a_run_that_is_paused_in_the_queue_holds_no_place_and_stays_paused() -> None:
    gate = Gate()
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=gate) as it:
        runs = [await it.submit(limited("queue"), {"customer": "a"}) for _ in range(3)]
        await it.engine.pause(runs[1], reason=None)
    async with bench(store=store, script=gate) as it:
        gate.open.set()
        assert [(await it.finish(run)).status for run in (runs[0], runs[2])] == ["completed"] * 2
        assert await status(it, runs[1]) == "paused"
        await it.engine.resume(runs[1])
        assert (await it.finish(runs[1])).status == "completed"


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
