"""What is begun while a run is being stored: only what does no harm if the run is never stored."""

from __future__ import annotations

import asyncio

import pytest

from app.ports.errors import StoreUnavailable
from app.ports.models import CallContext, ChatRequest
from tests.engines.faults import opened
from tests.engines.harness import bench, llm, workflow

ONE = workflow(llm("a"))


class Creation:
    """Storing a run: waits until it is let go, and fails if it is told to."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.fails = False

    async def __call__(self) -> None:
        self.reached.set()
        await self.go_on.wait()
        if self.fails:
            raise StoreUnavailable("the disk is full")


class Aborts:
    """A model that never answers, and counts the calls that were aborted."""

    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.count += 1
            raise
        return ""


async def test_a_run_that_cannot_be_stored_aborts_what_it_began_and_is_nowhere() -> None:
    store, creation, aborts = await opened(), Creation(), Aborts()
    store.on_create = creation
    creation.fails = True
    async with bench(store=store, script=aborts) as it:
        submitting = asyncio.create_task(it.submit(ONE))
        await asyncio.wait_for(it.chat.started.wait(), 5)
        creation.go_on.set()
        with pytest.raises(StoreUnavailable):
            await submitting
        assert (aborts.count, it.chat.in_flight, it.engine.stats().active) == (1, 0, 0)
        assert await store.runs.count(frozenset({"pending", "running"})) == 0
    await store.close()


async def test_after_a_run_that_could_not_be_stored_nothing_is_begun_before_one_could() -> None:
    store, creation = await opened(), Creation()
    async with bench(store=store) as it:
        store.full = True
        with pytest.raises(StoreUnavailable):
            await it.submit(ONE)
        store.full = False
        store.on_create = creation
        called = it.chat.calls["a"]
        submitting = asyncio.create_task(it.submit(ONE))
        await creation.reached.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert it.chat.calls["a"] == called
        creation.go_on.set()
        assert (await it.finish(await submitting)).status == "completed"
    await store.close()


async def test_a_step_that_must_not_repeat_waits_until_its_run_is_stored() -> None:
    store, creation = await opened(), Creation()
    store.on_create = creation
    async with bench(store=store) as it:
        submitting = asyncio.create_task(it.submit(workflow(llm("a", retry="never"))))
        await creation.reached.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert it.chat.calls["a"] == 0
        creation.go_on.set()
        assert (await it.finish(await submitting)).status == "completed"
        assert it.chat.calls["a"] == 1
    await store.close()


async def test_an_answer_that_comes_before_its_run_is_stored_is_kept_until_it_is() -> None:
    store, creation = await opened(), Creation()
    store.on_create = creation
    async with bench(store=store) as it:
        submitting = asyncio.create_task(it.submit(ONE))
        await asyncio.wait_for(it.chat.started.wait(), 5)
        for _ in range(10):
            await asyncio.sleep(0)
        assert it.chat.in_flight == 0
        assert not submitting.done()
        creation.go_on.set()
        history = await it.finish(await submitting)
        assert (history.status, it.chat.calls["a"]) == ("completed", 1)
    await store.close()
