"""Distributed maps through the whole engine: each item is a run of its own."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from app.core.state import StepStatus
from app.engines.budget import charged_so_far
from app.engines.called_runs import PAUSED_WITH_CALLER
from app.engines.embedded import EngineLimits
from app.engines.history import History
from app.ports.models import CallContext, ChatRequest, Usage
from app.ports.runs import RunFilter, RunRow
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, eventually, llm, workflow
from tests.engines.test_nested import transform
from tests.engines.test_waiting import register, until


def each(*steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A distributed map over the input `xs`."""
    return {
        "id": "each",
        "type": "map",
        "items": "inputs.xs",
        "distribute": True,
        "steps": list(steps),
        **more,
    }


def results(*steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    outputs = {"results": "{{ steps.each.results }}", "errors": "{{ steps.each.errors }}"}
    return workflow(*steps, outputs=outputs, **more)


class Hold:
    """A script that answers once it is let go."""

    def __init__(self) -> None:
        self.free = asyncio.Event()

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        await self.free.wait()
        return str(request.messages[-1].content)


async def items_of(it: Bench, run_id: str) -> list[RunRow]:
    return list(await it.store.runs.children("default", run_id))


async def statuses(it: Bench, run_id: str) -> Counter[str]:
    return Counter(row.status for row in await items_of(it, run_id))


async def until_items(it: Bench, run_id: str, wanted: Mapping[str, int]) -> None:
    async with asyncio.timeout(5):
        while await statuses(it, run_id) != wanted:  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.005)


# --- names and results --------------------------------------------------------------------------------


async def test_an_item_fails_with_the_error_and_the_path_that_it_would_have_in_the_map() -> None:
    inner = {**each(transform("cell", "10 // item")), "id": "cells", "items": "item"}
    document = results(each(inner, on_item_error="continue"))
    async with bench() as it:
        history = await it.run(document, {"xs": [[1], [2, 0], 7]})
    message = "a division by zero: the right side of // is 0 (in /expression)"
    first, second = history.outputs["errors"]
    assert history.outputs["results"] == [[10], None, None]
    assert first == {"index": 1, "path": "each[1].cells[1].cell", "class": "template", "message": message}
    assert (second["index"], second["path"], second["class"]) == (2, "each[2].cells", "invalid_config")


async def test_the_failure_of_the_run_names_the_item_whose_run_tells_the_rest() -> None:
    async with bench() as it:
        history = await it.run(workflow(each(transform("bad", "1 // 0"))), {"xs": [1]})
        assert history.status == "failed"
        assert history.failed_path == "each[0].run"
        (row,) = await items_of(it, history.state.run_id)
        assert (await it.read(row.id)).failed_path == "bad"


async def test_an_item_is_given_its_names_and_nothing_else() -> None:
    body = [transform("a", "page ~ index ~ inputs.k ~ steps.base.result ~ outputs.base ~ run.id")]
    document = workflow(
        transform("base", "'b'"),
        transform("unread", "'?'"),
        each(*body, **{"as": "page"}),
        outputs={"results": "{{ steps.each.results }}"},
    )
    async with bench() as it:
        history = await it.run(document, {"xs": ["x"], "k": "k", "unread": 1})
        run_id = history.state.run_id
        assert history.outputs["results"] == [f"x0kbb{run_id}"]
        (row,) = await items_of(it, run_id)
        item = await it.read(row.id)
        assert item.inputs == {
            "page": "x",
            "index": 0,
            "inputs": {"k": "k"},
            "steps": {"base": {"result": "b"}},
            "outputs": {"base": "b"},
            "run": {"id": run_id, "workflow": "test", "version": "1"},
        }
        assert (row.workflow, row.version, row.parent_run_id) == ("test", "1", run_id)


async def test_what_is_done_with_an_item_is_stored_once() -> None:
    async with bench() as it:
        history = await it.run(results(each(transform("a", "item"))), {"xs": [1, 2, 3]})
        rows = await items_of(it, history.state.run_id)
        assert len({row.definition_hash for row in rows}) == 1
        assert rows[0].definition_hash != history.submitted["definition"]


async def test_labels_priority_and_tenant_are_those_of_the_run() -> None:
    async with bench() as it:
        document = results(each(transform("a", "item")))
        run_id = await it.submit(document, {"xs": [1]}, labels={"a": "b"}, priority=7)
        assert (await it.finish(run_id)).status == "completed"
        (row,) = await items_of(it, run_id)
        assert (row.labels, row.priority, row.tenant) == ({"a": "b"}, 7, "default")


async def test_a_distributed_map_in_a_handler_knows_how_the_run_went() -> None:
    note = {**each(transform("say", "run.error.path ~ item")), "items": [1, 2]}
    document = workflow(transform("bad", "1 // 0"), on_failure=[note])
    async with bench() as it:
        history = await it.run(document)
    assert history.steps["on_failure.each"].outputs == {"results": ["bad1", "bad2"], "errors": []}


async def test_as_many_items_are_under_way_as_the_map_allows() -> None:
    hold = Hold()
    async with bench(script=hold) as it:
        document = results(each(llm("a", "{{ item }}"), max_concurrency=2))
        run_id = await it.submit(document, {"xs": list(range(9))})
        await eventually(lambda: it.chat.in_flight == 2)
        hold.free.set()
        assert (await it.finish(run_id)).status == "completed"
        assert it.chat.most_in_flight == 2


async def test_items_may_call_workflows() -> None:
    called = {"id": "call", "type": "workflow", "workflow": "child", "inputs": {"n": "{{ item }}"}}
    async with bench() as it:
        await register(it, {**workflow(transform("n", "inputs.n * 2")), "name": "child"})
        history = await it.run(results(each({**called, "distribute": True})), {"xs": [1, 2]})
        assert [one["n"] for one in history.outputs["results"]] == [2, 4]


# --- control ------------------------------------------------------------------------------------------


async def test_a_cancellation_ends_the_items_under_way() -> None:
    async with bench(script=Hold()) as it:
        run_id = await it.submit(results(each(llm("a", "{{ item }}"), max_concurrency=2)), {"xs": [1, 2, 3]})
        await eventually(lambda: it.chat.in_flight == 2)
        await it.engine.cancel(run_id, reason=None)
        assert (await it.finish(run_id)).status == "cancelled"
        assert await statuses(it, run_id) == {"cancelled": 2}
        assert not it.chat.in_flight


async def test_a_map_that_takes_too_long_ends_the_items_under_way() -> None:
    async with bench(script=Hold()) as it:
        history = await it.run(results(each(llm("a"), timeout_seconds=0.2)), {"xs": [1, 2]})
        assert history.failure is not None
        assert (history.status, history.failure.error_class) == ("failed", "timeout")
        assert await statuses(it, history.state.run_id) == {"cancelled": 2}


async def test_a_paused_run_pauses_its_items_and_a_resumed_one_resumes_them() -> None:
    hold = Hold()
    async with bench(script=hold) as it:
        steps = llm("a", "{{ item }}"), transform("b", "steps.a.text")
        run_id = await it.submit(results(each(*steps, max_concurrency=2)), {"xs": [1, 2, 3]})
        await eventually(lambda: it.chat.in_flight == 2)
        await it.engine.pause(run_id, reason=None)
        await until_items(it, run_id, {"paused": 2})
        hold.free.set()
        for row in await items_of(it, run_id):
            history = await until(it, row.id, lambda one: one.steps["a"].outputs is not None)
            assert (history.state.pause_reason, "b" in history.steps) == (PAUSED_WITH_CALLER, False)
        await it.engine.resume(run_id)
        history = await it.finish(run_id)
        assert history.outputs == {"results": ["1", "2", "3"], "errors": []}


async def test_an_item_that_somebody_paused_is_not_resumed_with_the_run() -> None:
    async with bench(script=Hold()) as it:
        run_id = await it.submit(results(each(llm("a"))), {"xs": [1, 2]})
        await eventually(lambda: it.chat.in_flight == 2)
        own, _ = await items_of(it, run_id)
        await it.engine.pause(own.id, reason="mine")
        await it.engine.pause(run_id, reason=None)
        await until_items(it, run_id, {"paused": 2})
        await it.engine.resume(run_id)
        await until_items(it, run_id, {"paused": 1, "running": 1})
        assert (await it.read(own.id)).state.pause_reason == "mine"


async def test_items_are_paused_and_resumed_with_a_run_whatever_process_has_it() -> None:
    store = MemoryStore()
    await store.open()
    hold = Hold()
    async with bench(store=store, script=hold) as it:
        run_id = await it.submit(results(each(llm("a", "{{ item }}"))), {"xs": [1, 2]})
        await eventually(lambda: it.chat.in_flight == 2)
        await it.engine.pause(run_id, reason=None)
        await until_items(it, run_id, {"paused": 2})
    hold.free.set()
    async with bench(store=store, script=hold) as it:
        assert await statuses(it, run_id) == {"paused": 2}
        await it.engine.resume(run_id)
        assert (await it.finish(run_id)).outputs["results"] == ["1", "2"]


async def test_an_item_that_a_pause_reaches_after_the_run_was_resumed_goes_on() -> None:
    hold = Hold()
    async with bench(script=hold, look_seconds=0.02) as it:
        run_id = await it.submit(results(each(llm("a", "{{ item }}"))), {"xs": [1, 2, 3]})
        await eventually(lambda: it.chat.in_flight == 3)
        late, own, _ = await items_of(it, run_id)
        await it.engine.pause(late.id, reason=PAUSED_WITH_CALLER)
        await it.engine.pause(own.id, reason="mine")
        await until_items(it, run_id, {"paused": 1, "running": 2})
        assert (await it.read(own.id)).state.pause_reason == "mine"
        hold.free.set()
        await it.engine.resume(own.id)
        assert (await it.finish(run_id)).outputs["results"] == ["1", "2", "3"]


async def test_a_run_whose_items_take_long_leaves_memory_and_comes_back() -> None:
    ask = {"id": "ask", "type": "approval", "message": "?"}
    async with bench() as it:
        run_id = await it.submit(results(each(ask, transform("a", "item", depends_on="ask"))), {"xs": [1, 2]})
        await until(it, run_id, lambda one: one.state.parked)
        await eventually(lambda: not it.engine.stats().active)
        for row in await items_of(it, run_id):
            await it.engine.answer(row.id, "ask", action="approve", data=None, by=None)
        assert (await it.finish(run_id)).outputs["results"] == [1, 2]


async def test_items_end_although_there_is_room_for_one_run_only() -> None:
    async with bench(limits=EngineLimits(max_active_runs=1, poll_seconds=0.02)) as it:
        history = await it.run(results(each(transform("a", "item * 2"))), {"xs": [1, 2]})
        assert history.outputs["results"] == [2, 4]


# --- budget, repetition, crashes ----------------------------------------------------------------------


async def test_items_never_use_more_than_is_left_of_the_runs_budget() -> None:
    async with bench() as it:
        it.chat.usage = lambda request, context: Usage(input_tokens=10, output_tokens=40)
        document = results(
            each(llm("a", "x", max_tokens=90), on_item_error="continue"), budget={"max_tokens": 600}
        )
        history = await it.run(document, {"xs": list(range(60))})
        calls = it.chat.calls["a"]
        assert 1 < calls <= 12
        assert charged_so_far(history).tokens == 50 * calls
        assert {error["class"] for error in history.outputs["errors"]} == {"budget_exceeded"}
        assert len(history.outputs["errors"]) == 60 - calls
        assert it.chat.most_in_flight == 1


async def test_a_repeated_run_repeats_no_step_of_an_item_that_is_asked_the_same() -> None:
    steps = llm("a", "{{ item }}"), llm("b", "{{ steps.a.text }}!")
    document = results(each(*steps))
    async with bench() as it:
        first = await it.run(document, {"xs": [1, 2]})
        assert it.chat.calls == {"a": 2, "b": 2}
        again = await it.submit(document, {"xs": [1, 2, 3]}, reuse=first.state.run_id)
        assert len((await it.finish(again)).outputs["results"]) == 3
        assert it.chat.calls == {"a": 3, "b": 3}
        fresh = frozenset({"each.b"})
        last = await it.submit(document, {"xs": [1, 2]}, reuse=first.state.run_id, fresh=fresh)
        assert (await it.finish(last)).status == "completed"
        assert it.chat.calls == {"a": 3, "b": 5}


async def test_items_share_the_cache_of_the_step_with_every_other_run() -> None:
    steps = [llm("a", "the same", cache={"ttl_seconds": 60, "key": "same"})]
    async with bench() as it:
        for distributed in (True, False):
            history = await it.run(results(each(*steps, distribute=distributed)), {"xs": [1, 2, 3]})
            assert history.outputs["results"] == ["a done"] * 3
        assert it.chat.calls.total() == 1


async def test_after_crashes_no_step_of_an_item_is_repeated_and_the_results_are_exact() -> None:
    store, made = MemoryStore(), Counter[str]()
    await store.open()
    crash_after = {7, 19, 20, 41, 64}

    async def count(request: ChatRequest, context: CallContext) -> str:
        if made.total() in crash_after:
            crash_after.discard(made.total())
            crashed.set()
        if crashed.is_set():
            await asyncio.Event().wait()
        made[context.idempotency_key] += 1
        return str(request.messages[-1].content)

    crashed = asyncio.Event()
    steps = llm("a", "{{ item }}"), llm("b", "{{ steps.a.text }}-{{ index }}")
    document, run_id, lives = results(each(*steps, max_concurrency=5)), "", 0
    history: History | None = None
    while history is None:
        crashed = asyncio.Event()
        lives += 1
        async with bench(store=store, script=count) as it:
            run_id = run_id or await it.submit(document, {"xs": list(range(40))})
            ended = asyncio.ensure_future(it.finish(run_id, 30))
            died = asyncio.ensure_future(crashed.wait())
            await asyncio.wait({ended, died}, return_when=asyncio.FIRST_COMPLETED)
            history = ended.result() if ended.done() else None
            for task in (ended, died):
                task.cancel()
            await asyncio.gather(ended, died, return_exceptions=True)
    assert lives == 6
    assert history.outputs == {"results": [f"{n}-{n}" for n in range(40)], "errors": []}
    # A call whose answer was not stored when its process died is made again, under the same key.
    assert len(made) == 80
    stored = await store.runs.children("default", run_id)
    assert len(stored) == 40
    async with bench(store=store) as it:
        for row in stored:
            assert (await it.types(row.id)).count("StepSucceeded") == 2


# --- many items ---------------------------------------------------------------------------------------


async def _took(it: Bench, count: int) -> float:
    began = time.process_time()
    document = results(each(transform("a", "item + steps.base.result")), {"id": "z", **_NOTHING})
    document["steps"].insert(0, transform("base", "1"))
    run_id = await it.submit(document, {"xs": list(range(count))})
    history = await it.finish(run_id, 300)
    assert history.outputs == {"results": list(range(1, count + 1)), "errors": []}
    assert "RunParked" not in await it.types(run_id)
    return time.process_time() - began


_NOTHING: dict[str, Any] = {"type": "wait", "seconds": 0.001}


@pytest.mark.quiet
async def test_an_item_costs_the_same_however_many_there_are() -> None:
    async with bench() as it:
        await _took(it, 20)
        few, many = await _took(it, 100), await _took(it, 800)
    assert many / 800 < 2.5 * few / 100


@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_five_thousand_items_take_linear_time_and_bounded_memory() -> None:
    async with bench() as it:
        await _took(it, 20)
        few = await _took(it, 500)
        most = 0
        run = asyncio.ensure_future(_took(it, 5000))
        while not run.done():
            await asyncio.wait({run}, timeout=0.1)
            most = max(most, it.engine.stats().active)
        assert most <= 17
        assert await run / 5000 < 2.5 * few / 500


async def test_at_most_the_items_under_way_and_their_run_are_in_memory() -> None:
    hold = Hold()
    async with bench(script=hold) as it:
        run_id = await it.submit(results(each(llm("a"), max_concurrency=3)), {"xs": list(range(30))})
        await eventually(lambda: it.chat.in_flight == 3)
        assert it.engine.stats().active == 4
        assert len(await it.store.runs.list("default", RunFilter(), limit=99)) == 4
        hold.free.set()
        history = await it.finish(run_id)
        assert history.state.steps["each"].status is StepStatus.COMPLETED
        await eventually(lambda: not it.engine.stats().active)
