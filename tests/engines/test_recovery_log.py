"""What the log says of a recovery: one line, however many attempts were in flight."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from app.ports.models import CallContext, ChatRequest
from app.stores.memory import MemoryStore
from tests.engines.harness import bench, llm, workflow

THREE_AT_ONCE = workflow(llm("a"), llm("b"), llm("c"))


async def never(request: ChatRequest, context: CallContext) -> str:
    await asyncio.Event().wait()
    return ""


@pytest.mark.parametrize(("runs", "level"), [(2, "warning"), (0, "info")])
async def test_lost_attempts_are_summed_up_in_one_line(runs: int, level: str) -> None:
    store = MemoryStore()
    await store.open()
    async with bench(store=store, script=never) as killed:
        for _ in range(runs):
            await killed.submit(THREE_AT_ONCE)
        async with asyncio.timeout(5):
            while killed.chat.calls.total() < 3 * runs:  # noqa: ASYNC110  nobody tells of the last call
                await asyncio.sleep(0.01)
    with capture_logs() as lines:
        async with bench(store=store):
            pass
    recovered = [line for line in lines if line["event"] == "engine.recovered"]
    assert [(line["runs"], line["lost_attempts"], line["log_level"]) for line in recovered] == [
        (runs, 3 * runs, level)
    ]
    assert [line for line in lines if line["log_level"] == "warning"] == recovered * (level == "warning")
