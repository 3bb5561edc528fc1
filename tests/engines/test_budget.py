"""Budgets: nothing is overspent by calls side by side, retries, crashes and called runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dsl.compiled import Budget
from app.engines.history import History
from app.ports.errors import PermanentError, TemporaryError
from app.ports.models import CallContext, ChatRequest, Usage
from app.ports.prices import Price, per_million
from app.ports.runs import WorkflowRow
from app.providers.prices import ListPrices
from app.steps.bounds import CALL_TOKENS, MESSAGE_TOKENS
from app.stores.memory import MemoryStore
from tests.engines.harness import Bench, bench, llm, workflow
from tests.engines.test_waiting import until

PROMPT = "say something"
INPUT = CALL_TOKENS + MESSAGE_TOKENS + len(PROMPT)
"""The bound on the input of a step with that prompt."""
PRICES = ListPrices(vendors={}, own={"own/m": Price(rate=per_million(input=1.0, output=10.0))})
"""A million input tokens for a dollar."""


def say(step_id: str, max_tokens: int = 99, **more: Any) -> dict[str, Any]:
    return llm(step_id, PROMPT, max_tokens=max_tokens, **more)


def charged(history: History) -> int:
    return sum(
        attempt.charged["tokens"]
        for step in history.steps.values()
        for attempt in step.attempts
        if attempt.charged
    )


async def eventually(b: Bench, run_id: str, status: str) -> History:
    return await until(b, run_id, lambda history: history.status == status)


# --- refusals -----------------------------------------------------------------------------------------


async def test_a_call_that_does_not_fit_is_not_made_and_the_step_says_what_was_left() -> None:
    async with bench() as b:
        document = workflow(say("a"), say("b", depends_on=["a"]), budget={"max_tokens": INPUT + 99})
        history = await b.run(document)
        assert history.status == "failed"
        assert history.failed_path == "b"
        assert history.failure is not None
        assert history.failure.error_class == "budget_exceeded"
        assert f"{INPUT + 99:,} tokens, and {INPUT + 94:,} tokens are left" in history.failure.message
        assert b.chat.calls == {"a": 1}


async def test_an_unknown_price_fails_before_any_call() -> None:
    async with bench(prices=PRICES) as b:
        document = workflow({**say("a"), "model": "dear"}, budget={"max_cost_usd": 1000.0})
        history = await b.run(document)
        assert history.failure is not None
        assert history.failure.error_class == "unknown_price"
        assert "'own/dear'" in history.failure.message
        assert not b.chat.calls


async def test_a_picture_has_no_bound() -> None:
    async with bench() as b:
        parts = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
        step = {**llm("a"), "messages": [{"role": "user", "content": parts}]}
        del step["prompt"]
        history = await b.run(workflow(step, budget={"max_tokens": 10**9}))
        assert history.failure is not None
        assert history.failure.error_class == "invalid_config"
        assert not b.chat.calls


async def test_a_submission_tightens_the_budget_of_its_document_and_never_widens_it() -> None:
    document = workflow(say("a"), budget={"max_tokens": INPUT + 99})
    async with bench() as b:
        tight = await b.submit(document, budget=Budget(max_tokens=10))
        wide = await b.submit(workflow(say("a", 100), budget={"max_tokens": INPUT + 99}))
        assert (await b.finish(tight)).status == "failed"
        assert (await b.finish(wide)).status == "failed"
        wider = await b.submit(
            workflow(say("a", 100), budget={"max_tokens": INPUT + 99}), budget=Budget(max_tokens=10**6)
        )
        assert (await b.finish(wider)).status == "failed"
        assert (await b.finish(await b.submit(document))).status == "completed"


# --- reserving and settling ---------------------------------------------------------------------------


async def test_calls_side_by_side_wait_for_each_other_where_they_do_not_fit_together() -> None:
    async with bench() as b:
        steps = [say(f"s{i}") for i in range(6)]
        history = await b.run(workflow(*steps, budget={"max_tokens": INPUT + 99 + 5 * 5}))
        assert history.status == "completed"
        assert b.chat.most_in_flight == 1
        assert charged(history) == 6 * 5


async def test_calls_side_by_side_run_together_where_they_fit() -> None:
    gate = asyncio.Event()

    async def together(request: ChatRequest, context: CallContext) -> str:
        if b.chat.in_flight == 3:
            gate.set()
        await gate.wait()
        return "done"

    async with bench(script=together) as b:
        history = await b.run(workflow(*[say(f"s{i}") for i in range(3)], budget={"max_tokens": 3000}))
        assert history.status == "completed"


async def test_cost_is_reserved_at_its_worst_and_charged_as_billed() -> None:
    worst = (INPUT * 1.0 + 99 * 10.0) / 1e6
    async with bench(prices=PRICES) as b:
        document = workflow(say("a"), say("b", depends_on=["a"]), budget={"max_cost_usd": worst * 1.01})
        history = await b.run(document)
        assert history.failed_path == "b"  # 3 + 20 microdollars were used: what is left is too little
        assert history.steps["a"].billing is not None
        assert history.steps["a"].billing["cost_usd"] == pytest.approx(23e-6)
        assert (await b.run({**document, "budget": {"max_cost_usd": worst + 23e-6}})).status == "completed"


async def test_a_step_without_max_tokens_is_sent_with_the_default() -> None:
    sent: list[int | None] = []

    async def answer(request: ChatRequest, context: CallContext) -> str:
        sent.append(request.max_tokens)
        return "done"

    async with bench(script=answer, max_tokens=77) as b:
        await b.run(workflow(llm("a"), budget={"max_tokens": 10_000}))
        await b.run(workflow(llm("a")))
    assert sent == [77, None]


async def test_what_a_vendor_refuses_costs_nothing_and_what_may_be_billed_stays_charged() -> None:
    async def script(request: ChatRequest, context: CallContext) -> str:
        if context.attempt == 1:
            if context.path == "limited":
                raise TemporaryError("rate_limit", "slow down")
            raise TemporaryError("connection", "the line broke")
        return "done"

    async with bench(script=script) as b:
        budget = {"max_tokens": 100_000}
        limited = await b.run(workflow(say("limited"), budget=budget))
        broken = await b.run(workflow(say("broken"), budget=budget))
        assert charged(limited) == 5
        assert charged(broken) == INPUT + 99 + 5


async def test_an_answer_of_no_use_is_charged_with_what_it_used() -> None:
    schema = {"type": "object"}

    async def script(request: ChatRequest, context: CallContext) -> str:
        return "no JSON" if context.attempt == 1 else "{}"

    async with bench(script=script, prices=PRICES) as b:
        history = await b.run(workflow(say("a", response_schema=schema), budget={"max_tokens": 100_000}))
        assert history.status == "completed"
        assert charged(history) == 10
        first = history.steps["a"].attempts[0]
        assert first.outcome == "failed"
        assert first.billing is not None
        assert first.billing["cost_usd"] == pytest.approx(23e-6)


async def test_tokens_that_the_vendor_did_not_count_are_charged_as_reserved() -> None:
    async with bench() as b:
        b.chat.usage = lambda request, context: Usage(output_tokens=7)
        history = await b.run(workflow(say("a"), budget={"max_tokens": 100_000}))
        assert charged(history) == INPUT + 7


async def test_a_run_without_a_budget_sets_nothing_aside() -> None:
    async with bench() as b:
        run_id = await b.submit(workflow(say("a")))
        await b.finish(run_id)
        assert "NoticeEmitted" not in await b.types(run_id)


# --- pausing ------------------------------------------------------------------------------------------


async def test_a_run_that_is_to_pause_goes_on_with_a_raised_budget() -> None:
    budget = {"max_tokens": INPUT + 99, "on_exceeded": "pause"}
    async with bench() as b:
        run_id = await b.submit(workflow(say("a"), say("b", depends_on=["a"]), budget=budget))
        paused = await eventually(b, run_id, "paused")
        assert paused.state.pause_reason == "budget"
        assert [attempt.outcome for attempt in paused.steps["b"].attempts] == ["deferred"]
        await b.engine.resume(run_id)
        await eventually(b, run_id, "paused")
        await b.engine.resume(run_id, budget={"max_tokens": 2 * (INPUT + 99)})
        history = await b.finish(run_id)
        assert history.status == "completed"
        assert b.chat.calls == {"a": 1, "b": 1}
        assert history.state.steps["b"].tries == 1


async def test_a_paused_run_is_taken_up_after_a_restart_with_its_account() -> None:
    budget = {"max_tokens": INPUT + 99, "on_exceeded": "pause"}
    store = MemoryStore()
    await store.open()
    async with bench(store=store) as b:
        run_id = await b.submit(workflow(say("a"), say("b", depends_on=["a"]), budget=budget))
        await eventually(b, run_id, "paused")
    async with bench(store=store) as b:
        await b.engine.resume(run_id, budget={"max_tokens": INPUT + 99 + 4})
        await eventually(b, run_id, "paused")
        await b.engine.resume(run_id, budget={"max_tokens": INPUT + 99 + 5})
        assert (await b.finish(run_id)).status == "completed"


async def test_a_run_that_is_ending_fails_its_step_instead_of_pausing() -> None:
    budget = {"max_tokens": 10, "on_exceeded": "pause"}
    gate = {"id": "hold", "type": "wait", "seconds": 60}
    document = workflow(gate, budget=budget)
    document["finally"] = [say("last")]
    async with bench() as b:
        run_id = await b.submit(document)
        await eventually(b, run_id, "waiting")
        await b.engine.cancel(run_id, reason=None)
        history = await b.finish(run_id)
        assert history.status == "cancelled"
        assert history.state.steps["finally.last"].status == "failed"


# --- runs that are called -----------------------------------------------------------------------------


async def register(b: Bench, document: dict[str, Any]) -> None:
    compiled = b.catalog.compile(document)
    row = WorkflowRow(
        tenant="default",
        name=compiled.name,
        version=compiled.version,
        revision=1,
        definition_hash=compiled.definition.hash,
        description=None,
        labels={},
        created_at=0.0,
    )
    await b.store.workflows.register(row, compiled.definition)


def call(step_id: str, **more: Any) -> dict[str, Any]:
    return {"id": step_id, "type": "workflow", "workflow": "child", **more}


async def test_a_called_run_cannot_use_more_than_its_caller_has_left() -> None:
    async with bench() as b:
        await register(b, {"name": "child", "steps": [say("x"), say("y", depends_on=["x"])]})
        history = await b.run(workflow(call("c"), budget={"max_tokens": INPUT + 99}))
        assert history.status == "failed"
        assert history.failure is not None
        assert history.failure.error_class == "budget_exceeded"
        assert b.chat.calls == {"x": 1}


async def test_what_a_called_run_used_is_charged_to_its_caller() -> None:
    async with bench() as b:
        await register(b, {"name": "child", "steps": [say("x"), say("y", depends_on=["x"])]})
        budget = {"max_tokens": INPUT + 99 + 9}
        history = await b.run(workflow(call("c"), say("a", depends_on=["c"]), budget=budget))
        assert history.steps["c"].charged == {"tokens": 10, "cost": 0}
        assert history.failed_path == "a"


async def test_called_runs_side_by_side_share_the_budget() -> None:
    async with bench() as b:
        await register(b, {"name": "child", "steps": [say("x")]})
        calls = [call(f"c{i}") for i in range(4)]
        history = await b.run(workflow(*calls, budget={"max_tokens": INPUT + 99 + 3 * 5}))
        assert history.status == "completed"
        assert b.chat.most_in_flight == 1


async def test_called_runs_with_a_budget_of_their_own_take_no_more_than_that() -> None:
    gate = asyncio.Event()

    async def together(request: ChatRequest, context: CallContext) -> str:
        if b.chat.in_flight == 3:
            gate.set()
        await gate.wait()
        return "done"

    async with bench(script=together) as b:
        await register(b, {"name": "child", "steps": [say("x")], "budget": {"max_tokens": 500}})
        history = await b.run(workflow(*[call(f"c{i}") for i in range(3)], budget={"max_tokens": 1500}))
        assert history.status == "completed"


async def test_a_run_that_waits_for_its_callers_budget_can_be_cancelled() -> None:
    async with bench() as b:
        await register(b, {"name": "child", "steps": [say("x")]})
        document = workflow(say("a"), call("c", depends_on=["a"]), budget={"max_tokens": INPUT + 99})
        document["budget"]["on_exceeded"] = "pause"
        b.chat.usage = lambda request, context: Usage(input_tokens=INPUT, output_tokens=99)
        run_id = await b.submit(document)
        await eventually(b, run_id, "paused")
        await b.engine.cancel(run_id, reason=None)
        assert (await b.finish(run_id)).status == "cancelled"
        assert b.chat.calls == {"a": 1}


async def test_after_a_restart_a_called_run_still_holds_what_it_was_given() -> None:
    store = MemoryStore()
    await store.open()
    held = asyncio.Event()

    async def hold(request: ChatRequest, context: CallContext) -> str:
        await held.wait()
        return "done"

    child = {"name": "child", "steps": [say("x")], "budget": {"max_tokens": 2 * (INPUT + 99)}}
    branch = [{"id": "pause", "type": "wait", "seconds": 0.05}, say("late", depends_on=["pause"])]
    document = workflow(call("c"), *branch, budget={"max_tokens": 2 * (INPUT + 99) + 50})
    async with bench(store=store, script=hold) as b:
        await register(b, child)
        run_id = await b.submit(document)
        await b.chat.started.wait()
    async with bench(store=store, script=hold) as b:
        await b.chat.started.wait()
        await asyncio.sleep(0.1)
        assert not b.chat.calls["late"]
        held.set()
        history = await b.finish(run_id)
        assert history.status == "completed"
        assert history.steps["c"].charged == {"tokens": INPUT + 99 + 5, "cost": 0}


# --- the property -------------------------------------------------------------------------------------


@dataclass
class World:
    """What calls really used, whoever still knows of them."""

    seed: int
    spent: int = 0
    calls: int = 0
    crash_at: frozenset[int] = frozenset()
    crash: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def script(self, request: ChatRequest, context: CallContext) -> str:
        self.calls += 1
        fate = self.random.random()
        if fate < 0.1:
            raise TemporaryError("rate_limit", "slow down")
        if fate < 0.15:
            raise PermanentError("context_length", "too long")
        output = self.random.randint(0, request.max_tokens or 0)
        used = Usage(input_tokens=self.random.randint(0, INPUT), output_tokens=output)
        self.spent += (used.input_tokens or 0) + output  # it is billed from here on, whatever comes of it
        if self.calls in self.crash_at:
            self.crash.set()
        await asyncio.sleep(self.random.choice([0.0, 0.0, 0.001]))
        if fate < 0.25:
            raise TemporaryError("connection", "the line broke")
        self.usages[context.idempotency_key, context.attempt] = used
        return "done"

    usages: dict[tuple[str, int], Usage] = field(default_factory=dict)

    def usage(self, request: ChatRequest, context: CallContext) -> Usage:
        return self.usages[context.idempotency_key, context.attempt]


@asynccontextmanager
async def life(store: MemoryStore, world: World) -> AsyncIterator[Bench]:
    async with bench(store=store, script=world.script) as b:
        b.chat.usage = world.usage
        yield b


async def spend(document: dict[str, Any], world: World) -> None:
    store = MemoryStore()
    await store.open()
    run_id: str | None = None
    while True:
        world.crash = asyncio.Event()
        async with life(store, world) as b:
            if run_id is None:
                await register(b, {"name": "child", "steps": [say("x", 20), say("y", 200)]})
                run_id = await b.submit(document)
            ended = asyncio.ensure_future(b.finish(run_id))
            crashed = asyncio.ensure_future(world.crash.wait())
            await asyncio.wait({ended, crashed}, return_when=asyncio.FIRST_COMPLETED)
            over = ended.done()
            if over:
                await ended
            for task in (ended, crashed):
                task.cancel()
            await asyncio.gather(ended, crashed, return_exceptions=True)
        if over:
            return


steps = st.one_of(
    st.builds(lambda n: ("llm", n), st.integers(1, 300)),
    st.builds(
        lambda n, count, wide: ("map", n, count, wide),
        st.integers(1, 300),
        st.integers(1, 6),
        st.integers(1, 4),
    ),
    st.just(("call",)),
)


def written(number: int, step: tuple[Any, ...]) -> dict[str, Any]:
    match step:
        case ("llm", max_tokens):
            return say(f"s{number}", max_tokens, on_error="continue")
        case ("map", max_tokens, count, wide):
            return {
                "id": f"s{number}",
                "type": "map",
                "items": list(range(count)),
                "max_concurrency": wide,
                "on_item_error": "continue",
                "steps": [say("each", max_tokens)],
            }
        case _:
            return call(f"s{number}", on_error="continue")


@settings(max_examples=100, deadline=None)
@given(
    document=st.lists(steps, min_size=1, max_size=5),
    tokens=st.integers(1, 6000),
    seed=st.integers(0, 2**32),
    crash_at=st.frozensets(st.integers(1, 12), max_size=3),
)
def test_a_budget_is_never_overspent(
    document: list[tuple[Any, ...]], tokens: int, seed: int, crash_at: frozenset[int]
) -> None:
    world = World(seed, crash_at=crash_at)
    written_steps = [written(number, step) for number, step in enumerate(document)]
    asyncio.run(spend(workflow(*written_steps, budget={"max_tokens": tokens}), world))
    assert world.spent <= tokens
