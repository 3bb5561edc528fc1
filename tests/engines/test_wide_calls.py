"""A run that waits for many others costs as much for each of them, however many there are."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.engines.status_reads import StatusReads
from app.ports.errors import StoreUnavailable
from app.ports.runs import RunFilter, RunRow
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, eventually, workflow
from tests.engines.test_nested import transform
from tests.engines.test_waiting import register

ASKING: dict[str, Any] = {
    **workflow({"id": "ask", "type": "approval", "message": "?"}, transform("n", "inputs.n")),
    "name": "child",
}


def wide(calls: int) -> dict[str, Any]:
    call = {"id": "call", "type": "workflow", "workflow": "child", "inputs": {"n": "{{ item }}"}}
    each = {"id": "each", "type": "map", "items": "{{ inputs.items }}", "steps": [call]}
    return workflow({**each, "max_concurrency": calls})


class CountingStore(MemoryStore):
    """Counts what is read of runs."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        for view, name in ((self.journal, "read"), (self.runs, "statuses"), (self.runs, "get")):
            self._count(view, name)

    def _count(self, view: Any, name: str) -> None:
        read = getattr(view, name)

        async def counted(*given: Any, **more: Any) -> Any:
            self.reads += 1
            return await read(*given, **more)

        setattr(view, name, counted)


async def called(it: Bench) -> list[RunRow]:
    rows = await it.store.runs.list("default", RunFilter(workflow="child"), limit=1000)
    return [row for row in rows if row.status == "waiting"]


@pytest.mark.parametrize("calls", [20, 200])
async def test_every_end_of_a_called_run_costs_as_many_reads(calls: int) -> None:
    store = CountingStore()
    await store.open()
    async with bench(store=store) as it:
        await register(it, ASKING)
        parent = await it.submit(wide(calls), {"items": list(range(calls))})
        async with asyncio.timeout(20):
            while len(await called(it)) < calls or it.engine.stats().active:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.02)
        store.reads = 0
        for row in await called(it):
            await it.engine.answer(row.id, "ask", action="approve", data=None, by=None)
            await eventually(lambda: not it.engine.stats().active)
        assert (await it.finish(parent)).status == "completed"
        # The called run is read once and its caller once, with one look at all the others.
        assert store.reads <= 6 * calls
        await it.engine.drain(1.0)


# --- statuses -----------------------------------------------------------------------------------------


async def test_a_store_that_cannot_be_read_fails_everybody_who_asked() -> None:
    async with bench() as it:

        async def fail(run_ids: Any) -> Any:
            raise StoreUnavailable("the disk is gone")

        it.store.runs.statuses = fail  # type: ignore[method-assign]  # a store that fails on order
        reads = StatusReads(it.store.runs)
        failed = await asyncio.gather(*(reads.of(name) for name in "abc"), return_exceptions=True)
        assert [type(one) for one in failed] == [StoreUnavailable] * 3


async def test_whoever_asks_at_once_shares_one_read_and_survives_the_others_abort() -> None:
    store = CountingStore()
    await store.open()
    async with bench(store=store) as it:
        run_id = await it.submit(workflow(transform("a", "1")))
        await it.finish(run_id)
        reads = StatusReads(store.runs)
        store.reads = 0
        assert [*await asyncio.gather(reads.of("nobody"), reads.of(run_id))] == [None, "completed"]
        assert store.reads == 1
        first, second = (asyncio.create_task(reads.of(run_id)) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == "completed"
        await it.engine.drain(1.0)
