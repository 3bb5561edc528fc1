"""Runs that brought much are looked through page by page: never all of it is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from app.ports.models import CallContext, ChatRequest
from app.ports.runs import JournalRow
from app.services.fixtures import MOST_BYTES
from app.services.principal import Principal
from app.services.run_reader import PAGE_BYTES
from app.services.usage import usage_of
from tests.api.harness import Api, api, problem
from tests.engines.harness import llm, workflow

ANSWER = "x" * 400_000
STEPS = 24
"""Of which each brings that much: more than fits into a recording."""


async def much(request: ChatRequest, context: CallContext) -> str:
    return ANSWER


@pytest.fixture
async def service() -> AsyncIterator[Api]:
    async with api(script=much) as it:
        yield it


class Pages:
    """The bytes of every page that is read of a journal."""

    def __init__(self, service: Api) -> None:
        self.sizes: list[int] = []
        journal = service.bench.store.journal
        read = journal.read

        async def watched(run_id: str, **options: Any) -> Sequence[JournalRow]:
            rows = await read(run_id, **options)
            self.sizes.append(sum(len(row.payload) for row in rows))
            return rows

        journal.read = watched  # type: ignore[method-assign]  # a store that counts


async def large_run(service: Api) -> str:
    steps = [llm(f"s{n}", depends_on=[f"s{n - 1}"] if n else []) for n in range(STEPS)]
    run_id = await service.bench.submit(workflow(*steps, outputs={}))
    assert (await service.bench.finish(run_id)).status == "completed"
    return run_id


async def test_a_run_that_is_too_large_for_a_recording_is_refused_before_all_of_it_is_read(
    service: Api,
) -> None:
    run_id = await large_run(service)
    pages = Pages(service)
    found = problem(await service.client.post(f"/v1/runs/{run_id}/fixture"), 422, "fixture_too_large")
    assert f"{MOST_BYTES:,} bytes" in found.detail
    assert sum(pages.sizes) <= MOST_BYTES + len(ANSWER) * 2


async def test_usage_holds_no_more_of_a_run_than_a_page(service: Api) -> None:
    run_id = await large_run(service)
    pages = Pages(service)
    answer = await service.client.get(f"/v1/runs/{run_id}/usage")
    assert answer.json()["total"]["calls"] == STEPS
    assert max(pages.sizes) <= PAGE_BYTES + len(ANSWER) * 2
    assert sum(pages.sizes) >= STEPS * len(ANSWER)


async def test_a_lean_run_lacks_only_what_its_steps_brought(service: Api) -> None:
    run_id = await large_run(service)
    runs, owner = (
        service.services.runs,
        Principal(tenant="default", subject="ada", roles=frozenset({"admin"})),
    )
    _, whole = await runs.load(owner, run_id)
    _, lean = await runs.load(owner, run_id, lean=True)
    prices = service.bench.prices
    assert usage_of(lean, prices) == usage_of(whole, prices)
    assert {step.outputs for step in lean.history.steps.values()} == {None}
    assert lean.history.seq == whole.history.seq
