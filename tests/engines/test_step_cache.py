"""Steps whose outputs are kept for others that ask the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.observability.recorder import NoMetrics
from app.ports.errors import PermanentError, StoreUnavailable, TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import StepCache
from app.stores.memory import MemoryStore
from tests.engines.harness import Script, answer_at_once, bench, llm, workflow
from tests.engines.test_waiting import until

DAY = {"ttl_seconds": 86_400}


def cached(step_id: str = "a", prompt: str = "about {{ inputs.topic }}", **more: Any) -> dict[str, Any]:
    return llm(step_id, prompt, **{"cache": DAY, "retry": "never", **more})


class Counted(NoMetrics):
    """Counts what the cache says."""

    def __init__(self) -> None:
        self.lookups: Counter[str] = Counter()

    def step_cache(self, outcome: str) -> None:
        self.lookups[outcome] += 1


async def calls(
    document: dict[str, Any], inputs: list[dict[str, Any]], *, script: Script = answer_at_once
) -> int:
    """How many calls these runs make, one after the other."""
    async with bench(script=script) as it:
        for given in inputs:
            await it.finish(await it.submit(document, given))
        return it.chat.calls.total()


async def test_a_failure_is_not_kept() -> None:
    async def fails(request: ChatRequest, context: CallContext) -> str:
        raise PermanentError("invalid_request", "no")

    assert await calls(workflow(cached()), [{"topic": "x"}] * 2, script=fails) == 2


async def test_a_step_that_asks_something_else_makes_its_call() -> None:
    assert await calls(workflow(cached()), [{"topic": "x"}, {"topic": "y"}]) == 2


async def test_a_step_without_cache_makes_its_call() -> None:
    assert await calls(workflow(llm("a")), [{}, {}]) == 2


async def test_what_is_too_old_is_not_taken() -> None:
    document = workflow(cached(cache={"ttl_seconds": 0.000001}))
    assert await calls(document, [{"topic": "x"}] * 2) == 2


async def test_how_long_outputs_stand_is_up_to_the_step_that_takes_them() -> None:
    async with bench() as it:
        await it.finish(await it.submit(workflow(cached("a", "same"))))
        await it.finish(await it.submit(workflow(cached("b", "same", cache={"ttl_seconds": 0.000001}))))
        assert it.chat.calls == {"a": 1, "b": 1}


async def test_another_tenant_makes_its_own_call() -> None:
    async with bench() as it:
        for tenant in ("default", "other"):
            await it.finish(await it.submit(workflow(cached()), {"topic": "x"}, tenant=tenant))
        assert it.chat.calls == {"a": 2}


async def test_the_same_asked_again_costs_no_call_and_says_what_it_saved() -> None:
    recorder = Counted()
    async with bench(recorder=recorder) as it:
        first = await it.finish(await it.submit(workflow(cached("a")), {"topic": "x"}))
        second = await it.finish(await it.submit(workflow(cached("b")), {"topic": "x"}))
        assert it.chat.calls == {"a": 1}
        assert second.steps["b"].outputs == first.steps["a"].outputs
        assert second.steps["b"].source == {"cache": True, "saved": first.steps["a"].billing}
        assert second.billed_tokens() == (0, 0)
        assert recorder.lookups == {"miss": 1, "hit": 1}


async def test_a_key_of_the_author_stands_for_the_question_within_one_step() -> None:
    def keyed(step_id: str, prompt: str) -> dict[str, Any]:
        return cached(step_id, prompt, cache={**DAY, "key": "{{ inputs.topic | lower }}"})

    document = workflow(keyed("a", "about {{ inputs.topic }}"))
    assert await calls(document, [{"topic": "X"}, {"topic": "x"}, {"topic": "y"}]) == 2
    async with bench() as it:
        for step in (keyed("a", "one {{ inputs.topic }}"), keyed("a", "two"), keyed("b", "two")):
            await it.finish(await it.submit(workflow(step), {"topic": "x"}))
        assert it.chat.calls == {"a": 2, "b": 1}


async def test_a_key_that_cannot_be_rendered_fails_the_step() -> None:
    document = workflow(cached(cache={**DAY, "key": "{{ inputs.missing.part }}"}))
    async with bench() as it:
        history = await it.finish(await it.submit(document, {"topic": "x"}))
        assert history.failure is not None
        assert history.failure.error_class == "template"


async def test_keys_hold_nothing_in_clear() -> None:
    store = MemoryStore()
    await store.open()
    kept: list[str] = []
    store.cache = Watched(store.cache, kept)
    async with bench(store=store) as it:
        for rule in (DAY, {**DAY, "key": "{{ inputs.topic }}"}):
            await it.finish(await it.submit(workflow(cached(cache=rule)), {"topic": "canary"}))
    assert len(set(kept)) == 2
    assert not any("canary" in key for key in kept)


class Watched:
    """Notes the keys that are asked for."""

    def __init__(self, cache: StepCache, keys: list[str]) -> None:
        self._cache = cache
        self._keys = keys

    async def find(self, tenant: str, key: str, now: float) -> bytes | None:
        self._keys.append(key)
        return await self._cache.find(tenant, key, now)

    async def save(self, tenant: str, key: str, value: bytes, *, expires_at: float) -> None:
        self._keys.append(key)
        await self._cache.save(tenant, key, value, expires_at=expires_at)

    async def prune(self, now: float, *, limit: int) -> int:
        return await self._cache.prune(now, limit=limit)


class Broken:
    """A cache of a store that is out of order."""

    async def find(self, tenant: str, key: str, now: float) -> bytes | None:
        raise StoreUnavailable("the disk reports an I/O error")

    async def save(self, tenant: str, key: str, value: bytes, *, expires_at: float) -> None:
        raise StoreUnavailable("the disk is full")

    async def prune(self, now: float, *, limit: int) -> int:
        return 0


async def test_a_cache_out_of_order_fails_no_step_and_complains_once_in_a_while() -> None:
    store = MemoryStore()
    await store.open()
    store.cache = Broken()
    with capture_logs() as logs:
        async with bench(store=store) as it:
            for _ in range(3):
                history = await it.finish(await it.submit(workflow(cached()), {"topic": "x"}))
                assert history.status == "completed"
            assert it.chat.calls == {"a": 3}
    assert [line["event"] for line in logs if line["event"].startswith("step_cache")] == [
        "step_cache.not_read"
    ]


MANY = workflow(
    {
        "id": "each",
        "type": "map",
        "items": "inputs.words",
        "max_concurrency": 50,
        "on_item_error": "continue",
        "steps": [cached("say", "{{ item }}")],
    },
    outputs={"said": "{{ steps.each.results }}"},
)


async def test_steps_that_ask_the_same_at_once_make_one_call() -> None:
    async with bench() as it:
        history = await it.finish(await it.submit(MANY, {"words": ["a", "b"] * 20}))
        assert it.chat.calls.total() == 2
        assert history.billed_tokens() == (6, 4)
        assert len(history.outputs["said"]) == 40


async def test_a_call_that_fails_sets_those_who_wait_for_it_free() -> None:
    go = asyncio.Event()
    failed = False

    async def fails_once(request: ChatRequest, context: CallContext) -> str:
        nonlocal failed
        await go.wait()
        if not failed:
            failed = True
            raise TemporaryError("server_error", "once")
        return "fine"

    async with bench(script=fails_once) as it:
        run_id = await it.submit(MANY, {"words": ["a"] * 5})
        await it.chat.started.wait()
        go.set()
        history = await it.finish(run_id)
        assert sorted(map(str, history.outputs["said"])) == ["None", "fine", "fine", "fine", "fine"]


@pytest.mark.parametrize("cancelled", ["the one that calls", "one that waits"])
async def test_a_cancelled_run_leaves_those_who_ask_the_same_alone(cancelled: str) -> None:
    go = asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        await go.wait()
        return "fine"

    async with bench(script=held) as it:
        first = await it.submit(workflow(cached()), {"topic": "x"})
        await it.chat.started.wait()
        second = await it.submit(workflow(cached()), {"topic": "x"})
        await until(it, second, lambda history: "a" in history.steps)
        gone, stays = (first, second) if cancelled == "the one that calls" else (second, first)
        await it.engine.cancel(gone, reason=None)
        assert (await it.finish(gone)).status == "cancelled"
        go.set()
        history = await it.finish(stays)
        assert history.status == "completed"
        assert it.chat.calls.total() == (2 if cancelled == "the one that calls" else 1)


async def test_a_step_that_must_run_again_calls_and_is_known_from_then_on() -> None:
    texts = iter(("old", "new"))

    async def answers(request: ChatRequest, context: CallContext) -> str:
        return next(texts)

    async with bench(script=answers) as it:
        first = await it.finish(await it.submit(workflow(cached()), {"topic": "x"}))
        again = await it.submit(
            workflow(cached()), {"topic": "x"}, reuse=first.state.run_id, fresh=frozenset({"a"})
        )
        assert ((await it.finish(again)).steps["a"].outputs or {})["text"] == "new"
        third = await it.finish(await it.submit(workflow(cached()), {"topic": "x"}))
        assert (third.steps["a"].outputs or {})["text"] == "new"
        assert it.chat.calls == {"a": 2}


async def test_items_of_a_map_that_ask_the_same_make_one_call() -> None:
    step = {
        "id": "each",
        "type": "map",
        "items": "{{ ['a', 'a', 'a', 'b'] }}",
        "steps": [cached("say", "{{ item }}")],
    }
    assert await calls(workflow(step), [{}]) == 2
