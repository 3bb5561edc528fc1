"""Use cases around runs see one tenant only, and leave nothing behind when they refuse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from app.engines.engine import CancelReceipt, RunEnded
from app.engines.following import LOOK_SECONDS
from app.ports.errors import DefinitionInvalid, InputsInvalid, StoreUnavailable
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import IdempotencyRecord, RunFilter, RunRow
from app.services.errors import RunNotFound, WorkflowNotFound
from app.services.event_stream import EventStream, Heartbeat
from app.services.idempotency import Answer, IdempotencyKey
from app.services.principal import Principal
from app.services.run_events import RunEvent
from app.services.runs import RunRequest, RunService
from app.stores.memory import MemoryStore
from app.stores.memory_lock import ExecutorSlot, MemoryLock
from tests.api.harness import services_of
from tests.engines.harness import Bench, bench, llm, workflow

ADA = Principal(tenant="ada", subject="ada", roles=frozenset({"admin"}))
BOB = Principal(tenant="bob", subject="bob", roles=frozenset({"admin"}))


def receipt(run: RunRow) -> Answer:
    return Answer(status_code=202, body=run.id.encode(), headers={"Location": f"/v1/runs/{run.id}"})


@pytest.fixture
async def engine() -> AsyncIterator[Bench]:
    async with bench() as started:
        yield started


@pytest.fixture
def runs(engine: Bench) -> RunService:
    return services_of(engine).runs


async def finished(runs: RunService, principal: Principal) -> str:
    accepted = await runs.submit(principal, RunRequest(workflow=workflow(llm("a"), llm("b"))), receipt)
    assert await runs.wait(ADA, accepted, seconds=10)
    return accepted.run_id


async def test_another_tenants_run_does_not_exist(runs: RunService) -> None:
    run_id = await finished(runs, ADA)

    def answer(_: CancelReceipt) -> Answer:
        raise AssertionError

    with pytest.raises(RunNotFound):
        await runs.get(BOB, run_id)
    with pytest.raises(RunNotFound):
        await runs.is_at(BOB, run_id, 1)
    with pytest.raises(RunNotFound):
        await runs.follow(BOB, run_id, after=0)
    with pytest.raises(RunNotFound):
        await runs.cancel(BOB, run_id, reason=None, receipt=answer)
    assert not (await runs.list(BOB, RunFilter(), limit=10, cursor=None)).items
    assert (await runs.get(ADA, run_id)).summary.status == "completed"


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (RunRequest(workflow={"name": "x"}), DefinitionInvalid),
        (RunRequest(workflow="unknown"), WorkflowNotFound),
        (
            RunRequest(
                workflow=workflow(
                    llm("a"), inputs={"type": "object", "required": ["q"], "properties": {"q": {}}}
                )
            ),
            InputsInvalid,
        ),
    ],
)
async def test_a_refused_submission_stores_nothing(
    engine: Bench, runs: RunService, request_: RunRequest, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await runs.submit(ADA, request_, receipt)
    assert not await engine.store.runs.list("ada", RunFilter(), limit=10)


async def test_an_ended_run_cannot_be_cancelled(runs: RunService) -> None:
    run_id = await finished(runs, ADA)
    with pytest.raises(RunEnded):
        await runs.cancel(ADA, run_id, reason=None, receipt=lambda _: Answer(status_code=202, body=b""))


async def never(request: ChatRequest, context: CallContext) -> str:
    await asyncio.Event().wait()
    return ""


async def test_a_shutdown_lets_waiting_callers_go() -> None:
    async with bench(script=never) as engine:
        services = services_of(engine)
        accepted = await services.runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        waiting = asyncio.ensure_future(services.runs.wait(ADA, accepted, seconds=60))
        await engine.chat.started.wait()
        services.close()
        assert await asyncio.wait_for(waiting, 5) is None
        assert await asyncio.wait_for(services.runs.wait(ADA, accepted, seconds=60), 5) is None


async def test_a_shutdown_may_be_told_of_any_number_of_times() -> None:
    async with bench(script=never) as engine:
        services = services_of(engine)
        accepted = await services.runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        waiting = asyncio.ensure_future(services.runs.wait(ADA, accepted, seconds=60))
        await engine.chat.started.wait()
        while not waiting.done():
            services.close()
            await asyncio.sleep(0)
        assert waiting.result() is None


async def test_a_wait_that_begins_in_a_shutdown_does_not_even_yield() -> None:
    async with bench(script=never) as engine:
        services = services_of(engine)
        accepted = await services.runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        services.close()
        with pytest.raises(StopIteration) as ended:
            services.runs.wait(ADA, accepted, seconds=60).send(None)
        assert ended.value.value is None
        services.close()


async def test_a_cancellation_whose_key_cannot_be_kept_is_no_failure() -> None:
    store = MemoryStore()
    await store.open()
    store.idempotency = KeepsNothing()
    async with bench(script=never, store=store) as engine:
        runs = services_of(engine).runs
        accepted = await runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        await engine.chat.started.wait()
        answer = Answer(status_code=202, body=b"cancelling")
        key = IdempotencyKey(key="k", fingerprint="f")
        given = await runs.cancel(ADA, accepted.run_id, reason=None, receipt=lambda _: answer, key=key)
        assert given == (answer, False)
        assert (await engine.finish(accepted.run_id)).status == "cancelled"


class KeepsNothing:
    """A store of answers whose disk is full."""

    async def find(self, tenant: str, key: str) -> IdempotencyRecord | None:
        return None

    async def save(self, record: IdempotencyRecord) -> None:
        raise StoreUnavailable("the disk is full")

    async def prune(self, older_than: float) -> int:
        return 0


@pytest.mark.parametrize("heartbeat_seconds", [60, 0.01])
async def test_a_stream_past_the_end_of_a_run_ends_with_it(heartbeat_seconds: float) -> None:
    go = asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        await go.wait()
        return "done"

    async with bench(script=held) as engine:
        runs = services_of(engine).runs
        accepted = await runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        stream = await runs.follow(ADA, accepted.run_id, after=1000)
        assert stream is not None
        items = stream.items(heartbeat_seconds=heartbeat_seconds)
        following = asyncio.ensure_future(seen_of(items))
        await engine.chat.started.wait()
        go.set()
        assert not await asyncio.wait_for(following, 5)


async def test_a_stream_past_the_end_ends_without_hearing_of_it(engine: Bench, runs: RunService) -> None:
    run_id = await finished(runs, ADA)
    ended = False

    async def is_finished() -> bool:
        return ended

    stream = EventStream(
        run_id=run_id,
        after=1000,
        journal=engine.store.journal,
        finished=is_finished,
        engine=engine.engine,
        closing=asyncio.Event(),
    )
    items = stream.items(heartbeat_seconds=0.01)
    assert isinstance(await anext(items), Heartbeat)
    ended = True
    assert not await asyncio.wait_for(seen_of(items), 5)


async def seen_of(items: AsyncIterator[RunEvent | Heartbeat]) -> list[RunEvent]:
    return [item async for item in items if isinstance(item, RunEvent)]


async def test_a_stream_resumed_anywhere_has_neither_gap_nor_duplicate(runs: RunService) -> None:
    run_id = await finished(runs, ADA)

    async def seqs(after: int) -> list[int]:
        stream = await runs.follow(ADA, run_id, after=after)
        if stream is None:
            return []
        items = [item async for item in stream.items(heartbeat_seconds=5)]
        return [item.seq for item in items if isinstance(item, RunEvent) and item.seq]

    everything = await seqs(0)
    assert everything == sorted(set(everything))
    for after in range(everything[-1] + 2):
        assert await seqs(after) == [seq for seq in everything if seq > after]


async def test_a_quiet_stream_beats_and_ends_with_the_process() -> None:
    hold = asyncio.Event()

    async def held(request: ChatRequest, context: CallContext) -> str:
        await hold.wait()
        return "done"

    async with bench(script=held) as engine:
        services = services_of(engine)
        accepted = await services.runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        stream = await services.runs.follow(ADA, accepted.run_id, after=0)
        assert stream is not None
        items = stream.items(heartbeat_seconds=0.01)
        types = [item.type async for item in take(items, 2) if isinstance(item, RunEvent)]
        assert types == ["run.started", "step.started"]
        assert isinstance(await anext(items), Heartbeat)
        services.close()
        assert not [item async for item in items if isinstance(item, RunEvent)]
        hold.set()


async def test_a_standby_that_looks_often_beats_no_oftener_than_asked() -> None:
    seconds = 1.3 * LOOK_SECONDS
    async with bench(lock=taken_lock()) as engine:
        runs = services_of(engine).runs
        accepted = await runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        stream = await runs.follow(ADA, accepted.run_id, after=0)
        assert stream is not None
        started = time.monotonic()
        items = stream.items(heartbeat_seconds=seconds)
        assert isinstance(await anext(items), Heartbeat)
        assert time.monotonic() - started >= seconds
        await items.aclose()


def taken_lock() -> MemoryLock:
    """The lock of a process that stands by."""
    slot = ExecutorSlot()
    slot.holder = MemoryLock(slot)
    return MemoryLock(slot)


async def take(items: AsyncIterator[RunEvent | Heartbeat], count: int) -> AsyncIterator[RunEvent | Heartbeat]:
    for _ in range(count):
        yield await anext(items)
