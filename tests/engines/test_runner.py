"""One run in the hands of the engine: order, durability, failure, data."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from dataclasses import replace

import pytest

from app.core.state import StepStatus
from app.dsl.compiled import Budget
from app.engines.attempts import AttemptLimits
from app.engines.history import History
from app.engines.runner import Runner
from app.engines.uptake import MAX_STOPS
from app.ports.errors import AlreadyExists, Fenced, PermanentError, StoreUnavailable, TemporaryError
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import JournalRow, StatusChange
from app.stores.memory import MemoryStore
from tests.core.snapshots import snapshot
from tests.engines.harness import Script, answer_at_once, bench, llm, workflow

THREE = workflow(
    llm("a"),
    llm("b", "{{ steps.a.text }}"),
    llm("c", "{{ steps.b.text }}"),
    outputs={"answer": "{{ steps.c.text }}"},
)


async def refuse(request: ChatRequest, context: CallContext) -> str:
    raise PermanentError("invalid_request", "the vendor says no")


async def test_a_permanent_failure_fails_the_run_with_path_class_and_message() -> None:
    async with bench(script=refuse) as it:
        history = await it.run(workflow(llm("a"), llm("b", "{{ steps.a.text }}")))
    assert history.status == "failed"
    assert history.failed_path == "a"
    assert history.failure is not None
    assert (history.failure.error_class, history.failure.temporary) == ("invalid_request", False)
    assert history.state.steps["b"].skip_reason == "upstream_failed"
    assert it.chat.calls == {"a": 1}


async def test_a_temporary_failure_is_tried_again_until_the_policy_is_used_up() -> None:
    async def busy(request: ChatRequest, context: CallContext) -> str:
        raise TemporaryError("rate_limit", "slow down")

    async with bench(script=busy) as it:
        history = await it.run(workflow(llm("a")))
    assert history.status == "failed"
    assert it.chat.calls == {"a": 3}
    assert [attempt.outcome for attempt in history.steps["a"].attempts] == ["failed"] * 3


async def test_a_bug_in_an_adapter_fails_its_step_and_tells_nothing_of_the_inside() -> None:
    async def broken(request: ChatRequest, context: CallContext) -> str:
        raise ZeroDivisionError("secret detail")

    async with bench(script=broken) as it:
        history = await it.run(workflow(llm("a")))
    assert history.failure is not None
    assert history.failure.error_class == "internal"
    assert "secret detail" not in history.failure.message


async def test_a_template_that_finds_nothing_fails_its_step() -> None:
    async with bench() as it:
        history = await it.run(workflow(llm("a", "{{ inputs.missing }}")))
    assert history.failure is not None
    assert history.failure.error_class == "template"
    assert "inputs.missing" in history.failure.message


async def test_outputs_that_are_too_large_fail_their_step() -> None:
    async def long(request: ChatRequest, context: CallContext) -> str:
        return "x" * 5000

    async with bench(script=long, attempt_limits=AttemptLimits(max_output_bytes=1000)) as it:
        history = await it.run(workflow(llm("a")))
    assert history.failure is not None
    assert history.failure.error_class == "too_large"


async def test_a_chain_runs_in_order_and_its_outputs_are_rendered() -> None:
    async with bench() as it:
        run_id = await it.submit(THREE)
        history = await it.finish(run_id)
        types = await it.types(run_id)
        stored = await it.store.runs.get("default", run_id)
    assert history.outputs == {"answer": "c done"}
    assert types == [
        "RunSubmitted",
        "RunStarted",
        "AttemptStarted",
        "StepSucceeded",
        "AttemptStarted",
        "StepSucceeded",
        "AttemptStarted",
        "StepSucceeded",
        "RunCompleted",
    ]
    assert stored is not None
    assert stored.status == "completed"
    assert stored.finished_at is not None


@pytest.mark.parametrize("budget", [None, Budget(max_tokens=100_000)])
@pytest.mark.parametrize("script", [answer_at_once, refuse])
async def test_an_ended_run_leaves_nothing_to_the_garbage_collector(
    script: Script, budget: Budget | None
) -> None:
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        async with bench(script=script) as it:
            await it.finish(await it.submit(THREE, budget=budget))
        gc.collect()
        assert not [left for left in gc.garbage if isinstance(left, (Runner, History))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_reading_the_journal_gives_what_the_runner_had() -> None:
    async with bench() as it:
        run_id = await it.submit(THREE)
        live = await it.finish(run_id)
        read = await it.read(run_id)
        assert snapshot(read.state) == snapshot(live.state)
        assert replace(read, state=live.state) == live


async def test_without_declared_outputs_the_last_steps_first_outputs_are_the_runs() -> None:
    async with bench() as it:
        history = await it.run(workflow(llm("a"), llm("b")))
    assert history.outputs == {"a": "a done", "b": "b done"}


async def test_braces_in_an_answer_stay_text() -> None:
    async def sly(request: ChatRequest, context: CallContext) -> str:
        return "{{ inputs.secret }}"

    async with bench(script=sly) as it:
        history = await it.run(THREE, {"secret": "do not tell"})
    assert history.outputs == {"answer": "{{ inputs.secret }}"}


async def test_a_gate_that_stays_closed_skips_its_step_and_the_merge_goes_on() -> None:
    document = workflow(
        llm("a"),
        llm("b", condition="inputs.wanted == true"),
        llm("c", "{{ steps.b.text or steps.a.text }}"),
    )
    async with bench() as it:
        history = await it.run(document, {"wanted": False})
    assert history.status == "completed"
    assert history.state.steps["b"].status is StepStatus.SKIPPED
    assert it.chat.calls == {"a": 1, "c": 1}


async def test_a_failed_steps_stand_in_lets_the_run_complete() -> None:
    document = workflow(
        llm("a", on_error={"action": "continue", "value": "sorry, {{ inputs.name }}"}),
        outputs={"answer": "{{ steps.a.text }}"},
    )
    async with bench(script=refuse) as it:
        history = await it.run(document, {"name": "Ada"})
    assert history.outputs == {"answer": "sorry, Ada"}


async def test_a_handler_reads_why_the_step_before_it_failed() -> None:
    async def first_fails(request: ChatRequest, context: CallContext) -> str:
        if context.path == "a":
            raise PermanentError("invalid_request", "the vendor says no")
        return str(request.messages[-1].content)

    document = workflow(llm("a"), llm("b", "{{ steps.a.error.message }}", run_on="failure"))
    async with bench(script=first_fails) as it:
        history = await it.run(document)
    assert history.status == "failed"
    assert (history.steps["b"].outputs or {})["text"] == "the vendor says no"


async def test_an_attempt_beyond_its_time_is_aborted() -> None:
    aborted = asyncio.Event()

    async def hang(request: ChatRequest, context: CallContext) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            aborted.set()
        return ""

    async with bench(script=hang) as it:
        history = await it.run(workflow(llm("a", timeout_seconds=0.02, retry="never")))
        await asyncio.wait_for(aborted.wait(), 5)
    assert history.failure is not None
    assert history.failure.error_class == "timeout"


async def test_a_run_beyond_its_time_ends_as_timed_out() -> None:
    async def hang(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    async with bench(script=hang) as it:
        history = await it.finish(await it.submit(workflow(llm("a")), timeout_seconds=0.05))
    assert history.status == "timed_out"
    assert history.state.steps["a"].status is StepStatus.CANCELLED


async def test_idempotency_keys_are_stable_across_attempts_and_differ_between_steps() -> None:
    keys: list[tuple[str, str]] = []

    async def flaky(request: ChatRequest, context: CallContext) -> str:
        keys.append((context.path, context.idempotency_key))
        if context.attempt == 1:
            raise TemporaryError("server_error", "once")
        return "ok"

    async with bench(script=flaky) as it:
        await it.run(workflow(llm("a"), llm("b", "{{ steps.a.text }}")))
    assert len(keys) == 4
    assert len({key for path, key in keys if path == "a"}) == 1
    assert len({key for _, key in keys}) == 2


class FussyStore(MemoryStore):
    """Refuses or loses appends as told."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[Exception] = []
        inner = self.journal.append

        async def append(rows: Sequence[JournalRow], change: StatusChange | None = None) -> None:
            if self.refusals:
                raise self.refusals.pop(0)
            await inner(rows, change)

        self.journal.append = append  # type: ignore[method-assign]  # a store that fails on order


async def test_a_full_disk_delays_a_run_and_loses_nothing() -> None:
    store = FussyStore()
    await store.open()
    store.refusals = [StoreUnavailable("the disk is full")] * 3
    async with bench(store=store) as it:
        history = await it.run(THREE)
    assert history.status == "completed"
    assert it.chat.calls == {"a": 1, "b": 1, "c": 1}


async def test_a_writer_that_lost_its_run_stops_and_starts_nothing_more() -> None:
    store = FussyStore()
    await store.open()
    async with bench(store=store) as it:
        store.refusals = [Fenced("another writer owns it")] * 100
        run_id = await it.submit(THREE)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(it.engine.wait(run_id), 0.3)
    assert it.chat.calls == {"a": 1}


async def test_an_executor_that_was_fenced_by_a_writer_now_gone_takes_its_run_up_again() -> None:
    store = FussyStore()
    await store.open()
    async with bench(store=store) as it:
        store.refusals = [Fenced("another writer owned it")]
        assert (await it.run(THREE)).status == "completed"
    assert it.chat.calls == {"a": 2, "b": 1, "c": 1}


async def test_a_run_whose_runner_crashed_is_taken_up_again_and_completes() -> None:
    store = FussyStore()
    await store.open()
    async with bench(store=store) as it:
        store.refusals = [RuntimeError("a bug in the store")]
        run_id = await it.submit(THREE)
        history = await it.finish(run_id)
        assert history.status == "completed"
        assert "AttemptLost" in await it.types(run_id)
        assert it.slots.take()


async def test_a_runner_that_crashes_every_time_ends_its_run_as_failed() -> None:
    store = FussyStore()
    await store.open()
    async with bench(store=store) as it:
        store.refusals = [RuntimeError("a bug in the store")] * (1 + MAX_STOPS)
        run_id = await it.submit(THREE)
        history = await it.finish(run_id)
        assert history.failure is not None
        assert history.failure.error_class == "internal"
        stored = await it.store.runs.get("default", run_id)
        assert stored is not None
        assert stored.status == "failed"
        assert it.slots.take()


async def test_outputs_nested_too_deeply_fail_their_step_not_the_runner() -> None:
    async def deep(request: ChatRequest, context: CallContext) -> str:
        return "[" * 200 + "]" * 200

    parse = {"id": "b", "type": "transform", "function": "parse_json", "inputs": ["a"]}
    async with bench(script=deep) as it:
        history = await it.run(workflow(llm("a"), parse))
    assert history.failed_path == "b"
    assert history.failure is not None
    assert history.failure.error_class == "invalid_output"


async def test_a_submission_that_could_not_be_stored_leaves_nothing_behind() -> None:
    async with bench() as it:
        run_id = await it.submit(workflow(llm("a")))
        with pytest.raises(AlreadyExists):
            await it.submit(workflow(llm("b")), id=run_id)
        await it.finish(run_id)
    assert it.chat.calls == {"a": 1}
    assert it.slots.take()


async def test_slots_of_the_process_bound_attempts_over_all_runs() -> None:
    async def briefly(request: ChatRequest, context: CallContext) -> str:
        await asyncio.sleep(0.001)
        return "ok"

    document = workflow(*(llm(f"s{n}") for n in range(10)))
    async with bench(script=briefly, attempt_slots=3) as it:
        ids = [await it.submit(document) for _ in range(5)]
        histories = [await it.finish(run_id) for run_id in ids]
    assert {history.status for history in histories} == {"completed"}
    assert it.chat.most_in_flight == 3


async def test_streamed_text_reaches_listeners_and_is_no_history() -> None:
    async with bench() as it:
        gate = asyncio.Event()

        async def wait_for_listener(request: ChatRequest, context: CallContext) -> str:
            await gate.wait()
            return "two words"

        it.chat.script = wait_for_listener
        run_id = await it.submit(workflow(llm("a", stream=True)))
        with it.engine.listen(run_id) as listener:
            gate.set()
            history = await it.finish(run_id)
            texts = [delta.text for delta in listener.deltas()]
    assert texts == ["two", "words"]
    assert (history.steps["a"].outputs or {})["text"] == "two words"
