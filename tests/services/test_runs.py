"""Use cases around runs see one tenant only, and leave nothing behind when they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.engines.engine import CancelReceipt, RunEnded
from app.ports.errors import DefinitionInvalid, InputsInvalid
from app.ports.models import CallContext, ChatRequest
from app.ports.runs import RunFilter, RunRow
from app.services.errors import RunNotFound, WorkflowNotFound
from app.services.event_stream import Heartbeat
from app.services.idempotency import Answer
from app.services.principal import Principal
from app.services.run_events import RunEvent
from app.services.runs import RunRequest, RunService
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
    assert await runs.wait(accepted, seconds=10)
    return accepted.run.id


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


async def test_a_shutdown_lets_waiting_callers_go() -> None:
    async def never(request: ChatRequest, context: CallContext) -> str:
        await asyncio.Event().wait()
        return ""

    async with bench(script=never) as engine:
        services = services_of(engine)
        accepted = await services.runs.submit(ADA, RunRequest(workflow=workflow(llm("a"))), receipt)
        waiting = asyncio.ensure_future(services.runs.wait(accepted, seconds=60))
        await engine.chat.started.wait()
        services.close()
        assert await asyncio.wait_for(waiting, 5) is None
        assert await asyncio.wait_for(services.runs.wait(accepted, seconds=60), 5) is None


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
        stream = await services.runs.follow(ADA, accepted.run.id, after=0)
        assert stream is not None
        items = stream.items(heartbeat_seconds=0.01)
        types = [item.type async for item in take(items, 2) if isinstance(item, RunEvent)]
        assert types == ["run.started", "step.started"]
        assert isinstance(await anext(items), Heartbeat)
        services.close()
        assert not [item async for item in items if isinstance(item, RunEvent)]
        hold.set()


async def take(items: AsyncIterator[RunEvent | Heartbeat], count: int) -> AsyncIterator[RunEvent | Heartbeat]:
    for _ in range(count):
        yield await anext(items)
