"""Runs that take over what an earlier run brought."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from app.engines.history import History
from app.ports.errors import PermanentError, StoreUnavailable
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import Journal, JournalRow, StatusChange
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, llm, workflow
from tests.engines.test_waiting import register

TWO = workflow(
    llm("a", "about {{ inputs.topic }}"),
    llm("b", "{{ steps.a.text }}", retry="never"),
    outputs={"b": "{{ steps.b.text }}"},
)


class Failing:
    """Refuses the steps that are named, answers the others with a text that is never the same twice."""

    def __init__(self, *paths: str) -> None:
        self.paths = set(paths)
        self.count = 0

    async def __call__(self, request: ChatRequest, context: CallContext) -> str:
        if context.path in self.paths:
            raise PermanentError("invalid_request", "not this one")
        self.count += 1
        return f"{context.path} {self.count}"


async def again(
    it: Bench, document: dict[str, Any], earlier: str, inputs: Any = None, **more: Any
) -> History:
    """A run that reuses another one, to its end; it knows which calls were made for it alone."""
    it.chat.calls.clear()
    return await it.finish(await it.submit(document, inputs or {}, reuse=earlier, **more))


async def test_a_step_that_failed_runs_again_and_what_completed_does_not() -> None:
    script = Failing("b")
    async with bench(script=script) as it:
        first = await it.finish(await it.submit(TWO, {"topic": "x"}))
        assert first.status == "failed"
        script.paths.clear()
        second = await again(it, TWO, first.state.run_id, {"topic": "x"})
        assert second.outputs == {"b": "b 2"}
        assert it.chat.calls == {"b": 1}
        reused = second.steps["a"]
        assert reused.outputs == first.steps["a"].outputs
        assert reused.billing is None
        assert reused.source is not None
        assert reused.source["run_id"] == first.state.run_id
        assert reused.source["saved"].items() >= {"input_tokens": 3, "output_tokens": 2}.items()
        assert second.billed_tokens() == (3, 2)


async def test_other_inputs_run_the_steps_that_see_them() -> None:
    document = workflow(llm("a", "about {{ inputs.topic }}"), llm("c", "always the same"))
    async with bench() as it:
        first = await it.finish(await it.submit(document, {"topic": "x"}))
        await again(it, document, first.state.run_id, {"topic": "y"})
        assert it.chat.calls == {"a": 1}


async def test_another_model_or_prompt_runs_the_step() -> None:
    async with bench() as it:
        first = await it.finish(await it.submit(workflow(llm("a"), llm("b"), llm("c"))))
        changed = workflow(
            llm("a", model="other"), llm("b", "say more"), llm("c", name="a title changes nothing")
        )
        await again(it, changed, first.state.run_id)
        assert it.chat.calls == {"a": 1, "b": 1}


async def test_a_step_that_must_run_again_does_and_its_dependents_follow_what_it_says() -> None:
    async with bench(script=Failing()) as it:
        first = await it.finish(await it.submit(TWO, {"topic": "x"}))
        second = await again(it, TWO, first.state.run_id, {"topic": "x"}, fresh=frozenset({"a"}))
        assert it.chat.calls == {"a": 1, "b": 1}
        assert second.steps["a"].source is None


async def test_a_chain_of_repetitions_names_the_run_that_made_the_call() -> None:
    async with bench(script=Failing()) as it:
        first = await it.finish(await it.submit(TWO, {"topic": "x"}))
        second = await again(it, TWO, first.state.run_id, {"topic": "x"})
        third = await again(it, TWO, second.state.run_id, {"topic": "x"})
        assert not it.chat.calls
        assert third.steps["a"].source == second.steps["a"].source
        assert third.steps["a"].source is not None
        assert third.steps["a"].source["run_id"] == first.state.run_id
        assert third.outputs == first.outputs


async def test_items_of_a_map_are_taken_over_one_by_one() -> None:
    document = workflow(
        {
            "id": "each",
            "type": "map",
            "items": "inputs.words",
            "on_item_error": "continue",
            "steps": [llm("say", "{{ item }}", retry="never")],
        },
        outputs={"said": "{{ steps.each.results }}"},
    )
    script = Failing("each[1].say")
    async with bench(script=script) as it:
        first = await it.finish(await it.submit(document, {"words": ["p", "q", "r"]}))
        script.paths.clear()
        second = await again(it, document, first.state.run_id, {"words": ["p", "q", "other"]})
        assert it.chat.calls == {"each[1].say": 1, "each[2].say": 1}
        assert second.outputs["said"][0] == first.outputs["said"][0]


async def test_a_value_that_stood_in_for_a_failure_is_not_taken_over() -> None:
    step = llm("a", retry="never", on_error={"action": "continue", "value": "sorry"})
    script = Failing("a")
    async with bench(script=script) as it:
        first = await it.finish(await it.submit(workflow(step)))
        assert (first.steps["a"].outputs or {})["text"] == "sorry"
        script.paths.clear()
        second = await again(it, workflow(step), first.state.run_id)
        assert (second.steps["a"].outputs or {})["text"] == "a 1"


CHILD = workflow(llm("one"), llm("two", "{{ steps.one.text }}", retry="never"), name="child")
CALL = workflow({"id": "call", "type": "workflow", "workflow": "child"}, llm("after", depends_on="call"))


@pytest.mark.parametrize("fresh", [frozenset({"call"}), frozenset[str]()])
async def test_a_run_that_is_called_again_takes_over_what_it_did(fresh: frozenset[str]) -> None:
    script = Failing("two")
    async with bench(script=script) as it:
        await register(it, CHILD)
        first = await it.finish(await it.submit(CALL))
        assert first.status == "failed"
        script.paths.clear()
        second = await again(it, CALL, first.state.run_id, fresh=fresh)
        assert second.status == "completed"
        assert it.chat.calls == {"two": 1, "after": 1} | ({"one": 1} if fresh else {})


async def test_an_earlier_run_that_is_gone_is_no_failure() -> None:
    async with bench() as it:
        history = await again(it, workflow(llm("a")), "0197d6a0-7c1e-7000-8000-000000000000")
        assert history.status == "completed"
        assert it.chat.calls == {"a": 1}


class Unreadable:
    """A journal that cannot be read for a while, where it is not read as a whole."""

    def __init__(self, journal: Journal, failures: int) -> None:
        self._journal = journal
        self.failures = failures

    async def append(self, rows: Sequence[JournalRow], change: StatusChange | None = None) -> None:
        await self._journal.append(rows, change)

    async def read(
        self, run_id: str, *, after: int = 0, limit: int | None = None, max_bytes: int | None = None
    ) -> Sequence[JournalRow]:
        if limit is not None and self.failures:
            self.failures -= 1
            raise StoreUnavailable("the disk reports an I/O error")
        return await self._journal.read(run_id, after=after, limit=limit)


async def test_a_store_that_cannot_be_read_is_waited_for_and_nothing_is_repeated() -> None:
    store = MemoryStore()
    await store.open()
    async with bench(store=store) as it:
        first = await it.finish(await it.submit(workflow(llm("a"))))
    store.journal = Unreadable(store.journal, failures=2)
    async with bench(store=store) as it:
        history = await again(it, workflow(llm("a")), first.state.run_id)
        assert history.status == "completed"
        assert not it.chat.calls


@pytest.mark.parametrize("crash_at", ["b", "c"])
async def test_a_run_goes_on_reusing_in_another_process(crash_at: str) -> None:
    document = workflow(
        llm("a"), llm("b", depends_on="a"), llm("c", depends_on="b"), llm("d", depends_on="c")
    )
    store = MemoryStore()
    await store.open()
    reached = asyncio.Event()

    async def stops(request: ChatRequest, context: CallContext) -> str:
        if context.path == crash_at:
            reached.set()
            await asyncio.Event().wait()
        return context.path

    async with bench(store=store) as it:
        first = await it.finish(await it.submit(document))
    async with bench(store=store, script=stops) as it:
        fresh = frozenset({crash_at})
        run_id = await it.submit(document, reuse=first.state.run_id, fresh=fresh)
        await asyncio.wait_for(reached.wait(), 5)
    async with bench(store=store) as it:
        history = await it.finish(run_id)
        assert history.status == "completed"
        assert it.chat.calls == {crash_at: 1}
        assert history.steps["d"].source is not None
